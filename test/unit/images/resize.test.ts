import { describe, expect, test } from 'vitest'
import { kontextSize, KONTEXT_SIZES } from '../../../lib/families/flux1/kontext-sizes.js'
import { fitSize, resizeImage } from '../../../lib/images/resize.js'
import { EXPECTED_NAMES, expectedBytes, expectedImage, largestDifference } from '../../support/expected-images.js'

const cases = EXPECTED_NAMES.flatMap((name) => {
  const parts = /^([abc])\.(stretch|cover|contain)\.(\d+)x(\d+)\.(lanczos|bicubic)$/.exec(name)
  return parts ? [[name, parts.slice(1)] as const] : []
})

test('there are cases', () => expect(cases.length).toBe(48))

test.each(cases)('%s is the same as with Pillow', async (name, [image, mode, width, height, filter]) => {
  const options = { filter: filter as 'lanczos', background: [10, 200, 30] } as const
  const resized = await resizeImage(
    expectedImage(`${image}.in`),
    Number(width),
    Number(height),
    mode as 'cover',
    options,
  )
  expect([resized.width, resized.height]).toEqual([Number(width), Number(height)])
  expect(largestDifference(resized.data, expectedBytes(name))).toBe(0)
})

test('colours under transparent pixels are kept', async () => {
  const data = Uint8Array.from({ length: 16 * 16 * 3 }, (_, i) => [200, 120, 40][i % 3]!)
  const image = { data, width: 16, height: 16, alpha: new Uint8Array(256) }
  const { data: small, alpha } = await resizeImage(image, 8, 8, 'stretch')
  expect([...small.subarray(0, 3)]).toEqual([200, 120, 40])
  expect(alpha).toEqual(new Uint8Array(64))
})

test('the border of contain is transparent where there is alpha', async () => {
  const image = { data: new Uint8Array(48), width: 4, height: 4, alpha: new Uint8Array(16).fill(255) }
  const { alpha } = await resizeImage(image, 8, 4, 'contain')
  expect([...alpha!.subarray(0, 8)]).toEqual([0, 0, 255, 255, 255, 255, 0, 0])
})

describe('none', () => {
  const image = { data: new Uint8Array(500 * 300 * 3).fill(7), width: 500, height: 300 }
  test('keeps an image that fits', async () => expect(await resizeImage(image, 500, 300, 'none')).toEqual(image))
  test('refuses another with the size that fits', async () => {
    await expect(resizeImage(image, 496, 304, 'none')).rejects.toMatchObject({
      code: 'FLUX_BAD_OPTION',
      message: expect.stringMatching(/^image is 500 x 300, which .* give one of 496 x 304/),
    })
  })
})

test.each([
  [{ data: new Uint8Array(3), width: 2, height: 1 }, 8, 8, 'cover', {}, 'FLUX_BAD_SHAPE'],
  [{ data: new Uint8Array(3), width: 1, height: 1 }, 0, 8, 'cover', {}, 'FLUX_BAD_OPTION'],
  [{ data: new Uint8Array(3), width: 1, height: 1 }, 8, 8.5, 'cover', {}, 'FLUX_BAD_OPTION'],
  [{ data: new Uint8Array(3), width: 1, height: 1 }, 8, NaN, 'cover', {}, 'FLUX_BAD_OPTION'],
  [{ data: new Uint8Array(3), width: 1, height: 1 }, 8, 8, 'crop', {}, 'FLUX_BAD_OPTION'],
  [{ data: new Uint8Array(3), width: 1, height: 1 }, 8, 8, 'cover', { filter: 'nearest' }, 'FLUX_BAD_OPTION'],
  [{ data: new Uint8Array(3), width: 1, height: 1 }, 8, 8, 'cover', { background: [1, 2] }, 'FLUX_BAD_OPTION'],
  [{ data: new Uint8Array(3), width: 1, height: 1, alpha: new Uint8Array(3) }, 8, 8, 'cover', {}, 'FLUX_BAD_SHAPE'],
  [null, 8, 8, 'cover', {}, 'FLUX_BAD_OPTION'],
] as const)('%o to %o x %o, %o, %o is refused', async (image, width, height, mode, options, code) => {
  await expect(resizeImage(image as any, width, height, mode as any, options as any)).rejects.toMatchObject({ code })
})

describe('fitSize', () => {
  test.each([
    // a size that fits stays
    [[512, 512], 16, undefined, [512, 512]],
    [[1360, 768], 16, undefined, [1360, 768]],
    [[500, 300], 16, undefined, [512, 304]],
    [[1000, 1000], 16, undefined, [1008, 1008]],
    [[5, 5], 16, undefined, [16, 16]],
    // about a megapixel, as diffusers computes for Kontext
    [[512, 512], 16, 1024 * 1024, [1024, 1024]],
    [[1920, 1080], 16, 1024 * 1024, [1360, 768]],
    [[1080, 1920], 16, 1024 * 1024, [768, 1360]],
    [[640, 480], 8, 480_000, [800, 600]],
  ])('%o in multiples of %i with %o pixels', ([width, height], unit, pixels, [w, h]) => {
    expect(fitSize(width!, height!, unit, pixels)).toEqual({ width: w, height: h })
  })

  test('no other multiple next to the sides has a closer aspect', () => {
    for (let width = 100; width < 1500; width += 137) {
      for (let height = 90; height < 1500; height += 149) {
        const fitted = fitSize(width, height)
        const error = (w: number, h: number) => Math.abs(Math.log((w / h / width) * height))
        for (const w of [Math.floor(width / 16), Math.ceil(width / 16)])
          for (const h of [Math.floor(height / 16), Math.ceil(height / 16)])
            expect(error(fitted.width, fitted.height)).toBeLessThanOrEqual(error(w * 16, h * 16) + 1e-5)
      }
    }
  })

  test('refuses what is no size', () => {
    expect(() => fitSize(0, 5)).toThrow(/the image.width is 0/)
    expect(() => fitSize(5, 5, 1.5)).toThrow(/unit is 1.5/)
    expect(() => fitSize(5, 5, 16, NaN)).toThrow(/pixels is NaN/)
  })
})

describe('kontextSize', () => {
  test.each([
    [512, 512, 1024, 1024],
    [1920, 1080, 1392, 752],
    [1080, 1920, 752, 1392],
    [4000, 3000, 1184, 880],
    [100, 1000, 672, 1568],
    [1000, 100, 1568, 672],
  ])('%i x %i', (width, height, w, h) => expect(kontextSize(width, height)).toEqual({ width: w, height: h }))

  test.each([[NaN, 1], [0, 0], [], [1, -1], [1, Infinity], ['1', 1]] as never[][])('%o x %o is refused', (...sides) => {
    expect(() => kontextSize(...(sides as unknown as [number, number]))).toThrow(
      expect.objectContaining({
        code: 'FLUX_BAD_OPTION',
        message: expect.stringMatching(/^(width|height) is .*above 0$/),
      }),
    )
  })

  test('each of the 17 is its own', () => {
    expect(KONTEXT_SIZES.length).toBe(17)
    for (const [width, height] of KONTEXT_SIZES) {
      expect(kontextSize(width, height)).toEqual({ width, height })
      expect([width % 16, height % 16]).toEqual([0, 0])
    }
  })
})
