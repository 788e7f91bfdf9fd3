import { FluxError } from '../errors.js'
import { resample } from '../images/resample.js'
import { requireRgbImage, type RgbImage } from '../images/rgb-image.js'
import { requireWhole } from '../options/checks.js'

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

/** of a tower's image, see `VISION_RULES` */
const MAX_SIDE = 4096
/** the longer side that CLIP's image is resized to before it is cropped */
const MAX_RESIZED = 16_384

/**
 * An image as SigLIP sees it: resized to a square, whatever its proportions. Source: huggingface/transformers,
 * `image_processing_siglip.py`.
 *
 * @param image as `readImage` returns it; alpha is ignored
 * @param side the tower's `imageSize`
 * @returns [3, side, side] in -1 to 1
 * @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE for what is no image
 */
export function siglipPixels(image: RgbImage, side: number): Float32Array {
  check(image, side)
  return normalised(resized(image, side, side), side, SIGLIP)
}

/**
 * An image as CLIP sees it: its shorter side resized, then the middle of the longer one. Source:
 * huggingface/transformers, `image_processing_clip.py`.
 *
 * @param image as `readImage` returns it; alpha is ignored
 * @param side the tower's `imageSize`
 * @returns [3, side, side]
 * @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE for what is no image, or is much longer than wide
 */
export function clipPixels(image: RgbImage, side: number): Float32Array {
  check(image, side)
  const { width, height } = image
  const shorter = Math.min(width, height)
  const [toWidth, toHeight] = [width, height].map((length) => Math.floor((side * length) / shorter)) as [number, number]
  if (Math.max(toWidth, toHeight) > MAX_RESIZED) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `the image is ${width} x ${height} pixels: give one whose sides differ by a factor of at most ${Math.floor(MAX_RESIZED / side)}`,
    )
  }
  return normalised(resized(image, toWidth, toHeight), side, CLIP)
}

function check(image: RgbImage, side: number): void {
  requireRgbImage('image', image)
  requireWhole('side', side, 1, MAX_SIDE)
}

/** With Pillow's bicubic filter, as transformers does. */
function resized({ data, width, height }: RgbImage, toWidth: number, toHeight: number): RgbImage {
  const same = width === toWidth && height === toHeight
  const resampled = same ? data : resample(data, [height, width, 3], [toHeight, toWidth], 'bicubic')
  return { data: resampled, width: toWidth, height: toHeight }
}

/** The square in the middle, channel by channel. */
function normalised(
  { data: rgb, width, height }: RgbImage,
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
