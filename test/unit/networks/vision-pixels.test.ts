import { describe, expect, it, test } from 'vitest'
import { resample } from '../../../lib/images/resample.js'
import { clipPixels, siglipPixels } from '../../../lib/networks/vision-pixels.js'
import { goldenErrors, goldenIo } from '../../support/golden.js'
import { relL2 } from '../../support/safetensors.js'

// images of the tower's size
test.each([
  ['redux', siglipPixels],
  ['ip-adapter', clipPixels],
] as const)('the pixels of %s', (file, pixelsOf) => {
  const io = goldenIo(file)
  const data = io.get('in.pixels_u8')!.data as Uint8Array
  const pixels = pixelsOf({ data, width: 56, height: 56 }, 56)
  const limit = goldenErrors()[`${file}.io.safetensors`]!['dbg.pixels']!.suggested.rel_l2!
  expect(relL2(pixels, io.get('dbg.pixels')!.data as Float32Array)).toBeLessThanOrEqual(limit)
})

describe('sizes', () => {
  const image = (width: number, height: number) => ({
    data: Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * 7919) % 251),
    width,
    height,
  })
  /** as a channel of a byte becomes a number */
  const normalised = (byte: number, mean: number, deviation: number) => (byte / 255 - mean) / deviation

  it('SigLIP: a square, without keeping the proportions, by the bicubic filter', () => {
    const given = image(30, 20)
    const pixels = siglipPixels(given, 16)
    const square = resample(given.data, [20, 30, 3], [16, 16], 'bicubic')
    expect(pixels.length).toBe(3 * 16 * 16)
    for (const at of [0, 17, 255]) {
      expect(pixels[at]).toBeCloseTo(normalised(square[3 * at]!, 0.5, 0.5), 6)
      expect(pixels[2 * 256 + at]).toBeCloseTo(normalised(square[3 * at + 2]!, 0.5, 0.5), 6)
    }
  })

  // CLIPImageProcessor: the longer side is int(224 * longer / shorter), the crop begins at (longer - 224) // 2
  it.each([
    [640, 480, 298, 224, 37, 0],
    [480, 640, 224, 298, 0, 37],
    [1000, 333, 672, 224, 224, 0],
    [225, 224, 225, 224, 0, 0],
  ])('CLIP: %i x %i', (width, height, toWidth, toHeight, left, top) => {
    const given = image(width, height)
    const pixels = clipPixels(given, 224)
    const whole = resample(given.data, [height, width, 3], [toHeight, toWidth], 'bicubic')
    for (const [x, y] of [
      [0, 0],
      [223, 0],
      [100, 223],
    ] as const) {
      const byte = whole[3 * ((top + y) * toWidth + left + x)]!
      expect(pixels[y * 224 + x]).toBeCloseTo(normalised(byte, 0.48145466, 0.26862954), 5)
    }
  })

  const square = image(4, 4)
  it.each<[unknown, number, string, RegExp]>([
    [{ ...square, height: 5 }, 224, 'FLUX_BAD_SHAPE', /image\.data has 48 values: 4 x 5 with 3 per pixel needs 60/],
    [{ ...square, width: 4.5 }, 224, 'FLUX_BAD_OPTION', /image\.width is 4.5/],
    [{ ...square, height: 0 }, 224, 'FLUX_BAD_OPTION', /image\.height is 0: give a whole number from 1/],
    [{ data: 'rgb', width: 1, height: 1 }, 224, 'FLUX_BAD_OPTION', /image\.data is 'rgb': give a Uint8Array/],
    [square.data, 224, 'FLUX_BAD_OPTION', /image\.width is undefined/],
    [undefined, 224, 'FLUX_BAD_OPTION', /image is undefined: give \{ data, width, height \}/],
    [square, 0, 'FLUX_BAD_OPTION', /side is 0/],
    [image(1, 74), 224, 'FLUX_BAD_OPTION', /1 x 74 pixels: .* a factor of at most 73/],
  ])('refuses what is no image: %#', (given, side, code, message) => {
    expect(() => clipPixels(given as never, side)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
    )
  })
})
