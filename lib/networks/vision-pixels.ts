import { FluxError } from '../errors.js'
import { badOption } from '../options/checks.js'

/**
 * Resizes an image with the bicubic filter of Pillow, which blurs when it makes an image smaller.
 *
 * @param rgb [height, width, 3] bytes
 * @returns [toHeight, toWidth, 3] bytes
 */
export type Resample = (rgb: Uint8Array, width: number, height: number, toWidth: number, toHeight: number) => Uint8Array

/** How a vision tower sees colours: each channel is (byte / 255 - mean) / deviation. */
interface Normalisation {
  mean: readonly [number, number, number]
  deviation: readonly [number, number, number]
}

const SIGLIP: Normalisation = { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] }
const CLIP: Normalisation = {
  mean: [0.48145466, 0.4578275, 0.40821073],
  deviation: [0.26862954, 0.26130258, 0.27577711],
}

const MAX_SIDE = 32_768
/** the longer side that CLIP's image is resized to before it is cropped */
const MAX_RESIZED = 16_384

/**
 * An image as SigLIP sees it: resized to a square, whatever its proportions. Source: huggingface/transformers,
 * `image_processing_siglip.py`.
 *
 * @param rgb [height, width, 3] bytes
 * @param side the tower's `imageSize`
 * @param resample not called for an image of that size
 * @returns [3, side, side] in -1 to 1
 * @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE for bytes that are not an image of this size
 */
export function siglipPixels(
  rgb: Uint8Array,
  width: number,
  height: number,
  side: number,
  resample: Resample,
): Float32Array {
  checkImage(rgb, width, height)
  return normalised(resized(rgb, width, height, side, side, resample), side, side, side, SIGLIP)
}

/**
 * An image as CLIP sees it: its shorter side resized, then the middle of the longer one. Source:
 * huggingface/transformers, `image_processing_clip.py`.
 *
 * @param rgb [height, width, 3] bytes
 * @param side the tower's `imageSize`
 * @param resample not called for an image whose shorter side has that size
 * @returns [3, side, side]
 * @throws {FluxError} FLUX_BAD_OPTION for an image that is much longer than wide, FLUX_BAD_SHAPE for bytes that are not
 *   an image of this size
 */
export function clipPixels(
  rgb: Uint8Array,
  width: number,
  height: number,
  side: number,
  resample: Resample,
): Float32Array {
  checkImage(rgb, width, height)
  const shorter = Math.min(width, height)
  const [toWidth, toHeight] = [width, height].map((length) => Math.floor((side * length) / shorter)) as [number, number]
  if (Math.max(toWidth, toHeight) > MAX_RESIZED) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `the image is ${width} x ${height} pixels: give one whose sides differ by a factor of at most ${Math.floor(MAX_RESIZED / side)}`,
    )
  }
  return normalised(resized(rgb, width, height, toWidth, toHeight, resample), toWidth, toHeight, side, CLIP)
}

function checkImage(rgb: Uint8Array, width: number, height: number): void {
  for (const [name, length] of Object.entries({ width, height })) {
    if (!Number.isInteger(length) || length < 1 || length > MAX_SIDE)
      throw badOption(`the image's ${name}`, length, `a whole number from 1 to ${MAX_SIDE}`)
  }
  if (!(rgb instanceof Uint8Array)) throw badOption('the image', rgb, 'a Uint8Array')
  if (rgb.length !== 3 * width * height) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `the image has ${rgb.length} bytes; ${width} x ${height} pixels of red, green and blue are ${3 * width * height}`,
    )
  }
}

function resized(
  rgb: Uint8Array,
  width: number,
  height: number,
  toWidth: number,
  toHeight: number,
  resample: Resample,
): Uint8Array {
  return width === toWidth && height === toHeight ? rgb : resample(rgb, width, height, toWidth, toHeight)
}

/** The square in the middle, channel by channel. */
function normalised(
  rgb: Uint8Array,
  width: number,
  height: number,
  side: number,
  { mean, deviation }: Normalisation,
): Float32Array {
  const [left, top] = [(width - side) >> 1, (height - side) >> 1]
  const pixels = new Float32Array(3 * side * side)
  for (let channel = 0, at = 0; channel < 3; channel++) {
    for (let y = top; y < top + side; y++) {
      for (let x = left; x < left + side; x++, at++)
        pixels[at] = (rgb[3 * (y * width + x) + channel]! / 255 - mean[channel]!) / deviation[channel]!
    }
  }
  return pixels
}
