import { describe, expect, test } from 'vitest'
import type { Mask } from '../../../lib/images/edit-mask.js'
import { blurMask } from '../../../lib/images/edit-mask.js'
import { cropImage, cropMask, onlyMasked, pasteBack } from '../../../lib/images/only-masked.js'
import { expectedBytes, expectedImage, expectedMask } from '../../support/expected-images.js'

/** white in one rectangle */
function maskOf(width: number, height: number, [x, y, w, h]: number[]): Mask {
  const inside = (column: number, row: number) => column >= x! && column < x! + w! && row >= y! && row < y! + h!
  const data = Uint8Array.from({ length: width * height }, (_, i) =>
    inside(i % width, Math.floor(i / width)) ? 255 : 0,
  )
  return { data, width, height }
}

describe('onlyMasked', () => {
  test.each([
    // the mask's own aspect
    [[100, 100, 64, 64], 0, [512, 512], [100, 100, 64, 64]],
    [[100, 100, 64, 64], 32, [512, 512], [68, 68, 128, 128]],
    // extended in height, in width
    [[100, 100, 64, 32], 0, [512, 512], [100, 84, 64, 64]],
    [[100, 100, 32, 64], 0, [512, 512], [84, 100, 64, 64]],
    [[100, 100, 40, 40], 10, [1024, 512], [60, 90, 120, 60]],
    // moved into the image
    [[0, 0, 64, 32], 0, [512, 512], [0, 0, 64, 64]],
    [[380, 10, 20, 100], 0, [512, 512], [300, 10, 100, 100]],
    // padding ends at the edges of the image
    [[0, 150, 10, 50], 30, [512, 512], [0, 120, 80, 80]],
    // too small for the aspect: ends at the edges
    [[0, 50, 400, 100], 0, [512, 512], [0, 0, 400, 200]],
  ])('%o with padding %i at %o', (drawn, padding, [width, height], [x, y, w, h]) => {
    const rectangle = onlyMasked(maskOf(400, 200, drawn), padding, width!, height!)
    expect(rectangle).toEqual({ x, y, width: w, height: h })
  })

  test('one faint pixel counts', () => {
    const mask = maskOf(50, 50, [10, 20, 1, 1])
    mask.data[20 * 50 + 10] = 1
    expect(onlyMasked(mask, 0, 64, 64)).toEqual({ x: 10, y: 20, width: 1, height: 1 })
  })

  test('an empty mask is refused', () => {
    expect(() => onlyMasked(maskOf(50, 50, [0, 0, 0, 0]), 0, 64, 64)).toThrow(/^mask is empty/)
  })

  test.each([
    [-1, 64],
    [1.5, 64],
    [0, 0],
    [0, NaN],
  ])('padding %d and width %d are refused', (padding, width) => {
    expect(() => onlyMasked(maskOf(9, 9, [1, 1, 1, 1]), padding, width, 64)).toThrow(
      /FLUX_BAD_OPTION|give a whole number/,
    )
  })
})

describe('what is left out is refused by name', () => {
  const image = expectedImage('grey.in')
  const mask = maskOf(image.width, image.height, [1, 1, 1, 1])
  const none = undefined as never
  test.each<[string, () => unknown]>([
    ['mask is null', () => onlyMasked(null as never, 0, 64, 64)],
    ['mask is undefined', () => onlyMasked(none, 0, 64, 64)],
    ['rectangle is undefined', () => cropImage(image, none)],
    ['rectangle is undefined', () => cropMask(mask, none)],
    ['mask is undefined', () => cropMask(none, none)],
    ['mask is undefined', () => pasteBack(image, image, none, none)],
    ['rectangle is null', () => pasteBack(image, image, null as never, mask)],
  ])('%s', (message, call) => {
    expect(call).toThrow(
      expect.objectContaining({ code: 'FLUX_BAD_OPTION', message: expect.stringContaining(`${message}: give {`) }),
    )
  })
})

describe('pasteBack', () => {
  const original = expectedImage('grey.in')
  const whole = { x: 0, y: 0, width: original.width, height: original.height }

  test('mixes as Pillow does', () => {
    const mask = blurMask(expectedMask('mask.in'), 4)
    expect(pasteBack(original, expectedImage('paste.in'), whole, mask).data).toEqual(expectedBytes('paste.out'))
  })

  test('what is not masked stays identical, what is masked is what was drawn', () => {
    const mask = maskOf(original.width, original.height, [20, 10, 12, 9])
    const rectangle = onlyMasked(mask, 4, 64, 64)
    const drawn = { data: new Uint8Array(64 * 64 * 3).fill(77), width: 64, height: 64 }
    const before = new Uint8Array(original.data)
    const pasted = pasteBack(original, drawn, rectangle, mask)
    expect(original.data).toEqual(before)
    pasted.data.forEach((value, i) => expect(value).toBe(mask.data[Math.floor(i / 3)] === 0 ? original.data[i] : 77))
  })

  test('a soft mask beyond the rectangle changes nothing there', () => {
    const everywhere = maskOf(original.width, original.height, [0, 0, original.width, original.height])
    const rectangle = { x: 5, y: 6, width: 3, height: 2 }
    const drawn = { data: new Uint8Array(18).fill(9), width: 3, height: 2 }
    const pasted = pasteBack(original, drawn, rectangle, everywhere)
    expect(cropImage(pasted, rectangle).data).toEqual(drawn.data)
    const changed = pasted.data.filter((value, i) => value !== original.data[i]).length
    expect(changed).toBeLessThanOrEqual(18)
    expect(cropMask(everywhere, rectangle)).toEqual({ data: new Uint8Array(6).fill(255), width: 3, height: 2 })
  })

  test('alpha is kept, and cropped', () => {
    const alpha = Uint8Array.from({ length: original.width * original.height }, (_, i) => i % 256)
    const mask = maskOf(original.width, original.height, [1, 1, 1, 1])
    const rectangle = { x: 1, y: 1, width: 2, height: 1 }
    const drawn = { data: new Uint8Array(6), width: 2, height: 1 }
    const pasted = pasteBack({ ...original, alpha }, drawn, rectangle, mask)
    expect(pasted.alpha).toEqual(alpha)
    expect([...cropImage(pasted, rectangle).alpha!]).toEqual([original.width + 1, original.width + 2])
  })

  test('other sizes are refused', () => {
    const drawn = { data: new Uint8Array(3), width: 1, height: 1 }
    const mask = maskOf(10, 10, [1, 1, 1, 1])
    expect(() => pasteBack(original, drawn, whole, mask)).toThrow(
      /^mask is 10 x 10: give one of the image's size, 70 x 50/,
    )
    const outside = { x: 69, y: 0, width: 2, height: 1 }
    expect(() => pasteBack(original, drawn, outside, maskOf(70, 50, [1, 1, 1, 1]))).toThrow(/rectangle.x is 69/)
  })
})
