import { describe, expect, it, test } from 'vitest'
import { clipPixels, siglipPixels, type Resample } from '../../../lib/networks/vision-pixels.js'
import { goldenErrors, goldenIo } from '../../support/golden.js'
import { relL2 } from '../../support/safetensors.js'

const never: Resample = () => {
  throw new Error('resized')
}

// images of the tower's size
test.each([
  ['redux', siglipPixels],
  ['ip-adapter', clipPixels],
] as const)('the pixels of %s', (file, pixelsOf) => {
  const io = goldenIo(file)
  const bytes = io.get('in.pixels_u8')!.data as Uint8Array
  const pixels = pixelsOf(bytes, 56, 56, 56, never)
  const limit = goldenErrors()[`${file}.io.safetensors`]!['dbg.pixels']!.suggested.rel_l2!
  expect(relL2(pixels, io.get('dbg.pixels')!.data as Float32Array)).toBeLessThanOrEqual(limit)
})

describe('sizes', () => {
  /** Gives each pixel its own coordinates, and notes what it was asked for. */
  const asked: number[][] = []
  const coordinates: Resample = (_, width, height, toWidth, toHeight) => {
    asked.push([width, height, toWidth, toHeight])
    return Uint8Array.from(
      { length: 3 * toWidth * toHeight },
      (_, i) => [Math.floor(i / 3) % toWidth, Math.floor(i / 3 / toWidth), 0].at(i % 3)!,
    )
  }
  const image = (width: number, height: number) => new Uint8Array(3 * width * height)

  it('SigLIP: a square, without keeping the proportions', () => {
    const pixels = siglipPixels(image(30, 20), 30, 20, 16, coordinates)
    expect(asked.pop()).toEqual([30, 20, 16, 16])
    expect(pixels.length).toBe(3 * 16 * 16)
    expect(pixels[17]).toBeCloseTo(1 / 127.5 - 1, 6)
  })

  // CLIPImageProcessor: the longer side is int(224 * longer / shorter), the crop begins at (longer - 224) // 2
  it.each([
    [640, 480, 298, 224, 37, 0],
    [480, 640, 224, 298, 0, 37],
    [1000, 333, 672, 224, 224, 0],
    [225, 224, 225, 224, 0, 0],
  ])('CLIP: %i x %i', (width, height, toWidth, toHeight, left, top) => {
    const pixels = clipPixels(image(width, height), width, height, 224, coordinates)
    if (toWidth !== width) expect(asked.pop()).toEqual([width, height, toWidth, toHeight])
    else return // not resized, so there are no coordinates
    const byte = (channel: number) => {
      const [mean, deviation] = [
        [0.48145466, 0.26862954],
        [0.4578275, 0.26130258],
      ][channel] as [number, number]
      return Math.abs(Math.round(255 * (pixels[channel * 224 * 224]! * deviation + mean)))
    }
    expect([byte(0), byte(1)]).toEqual([left, top])
  })

  it.each<[Parameters<typeof clipPixels>, string, RegExp]>([
    [[image(4, 4), 4, 5, 224, never], 'FLUX_BAD_SHAPE', /the image has 48 bytes; 4 x 5 pixels .* are 60/],
    [[image(4, 4), 4.5, 4, 224, never], 'FLUX_BAD_OPTION', /the image's width is 4.5/],
    [
      [image(4, 4), 4, 0, 224, never],
      'FLUX_BAD_OPTION',
      /the image's height is 0: give a whole number from 1 to 32768/,
    ],
    [['rgb' as never, 1, 1, 224, never], 'FLUX_BAD_OPTION', /the image is 'rgb': give a Uint8Array/],
    [[image(1, 74), 1, 74, 224, never], 'FLUX_BAD_OPTION', /1 x 74 pixels: .* a factor of at most 73/],
  ])('refuses what is no image: %o', (args, code, message) => {
    expect(() => clipPixels(...args)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
    )
  })
})
