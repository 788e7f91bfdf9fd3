import { expect, test } from 'vitest'
import { canny } from '../../../lib/images/canny.js'
import { EXPECTED_NAMES, expectedImage, largestDifference } from '../../support/expected-images.js'

const cases = EXPECTED_NAMES.flatMap((name) => {
  const parts = /^canny\.(\w+)\.([\d.]+)-([\d.]+)$/.exec(name)
  return parts ? [[name, parts[1]!, Number(parts[2]), Number(parts[3])] as const] : []
})

test('there are cases', () => expect(cases.length).toBe(25))

test.each(cases)('%s is the same as with OpenCV', async (name, image, low, high) => {
  const edges = await canny(expectedImage(`canny.${image}.in`), low, high)
  expect(largestDifference(edges.data, expectedImage(name).data)).toBe(0)
})

test('the cases have edges and the others not', () => {
  expect(expectedImage('canny.rgb.100-200').data.filter((value) => value === 255).length).toBeGreaterThan(300)
})

test.each([
  [NaN, 100],
  [-1, 100],
  [100, 2041],
  ['100' as any, 200],
])('thresholds %o and %o are refused', async (low, high) => {
  const image = { data: new Uint8Array(3), width: 1, height: 1 }
  await expect(canny(image, low, high)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
})

test('what is no image is refused', async () => {
  await expect(canny({ data: new Uint8Array(2), width: 1, height: 1 }, 1, 2)).rejects.toMatchObject({
    code: 'FLUX_BAD_SHAPE',
  })
  await expect(canny('image.png' as any, 1, 2)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
})
