import { badOption, requireOneOf, requireWhole } from '../options/checks.js'
import { RESIZE_MODES, resizePlanes, type ResizeMode } from './resize-planes.js'
import { requirePixels, requireSides, type RgbImage } from './rgb-image.js'

/** Where an image is drawn anew: 255 there, 0 where it stays, values in between mix. */
export interface Mask {
  /** [height, width] */
  data: Uint8Array
  width: number
  height: number
}

/** The brightness of an image's pixels; alpha is ignored. */
export function brightnessOf({ data: rgb, width, height }: RgbImage): Mask {
  const data = new Uint8Array(width * height)
  // ITU-R 601-2 in fixed point, as Pillow's convert('L'): python-pillow/Pillow src/libImaging/Convert.c
  for (let i = 0; i < data.length; i++)
    data[i] = (rgb[i * 3]! * 19595 + rgb[i * 3 + 1]! * 38470 + rgb[i * 3 + 2]! * 7471 + 0x8000) >> 16
  return { data, width, height }
}

function requireMask(mask: Mask): void {
  if (typeof mask !== 'object' || mask === null)
    throw badOption('mask', mask, '{ data, width, height } as readMask returns it')
  requirePixels('mask', mask, 1)
}

/** Whether nothing is drawn. */
export function isEmptyMask({ data }: Mask): boolean {
  // a loop, because the callbacks of `every` take several times as long
  for (let i = 0; i < data.length; i++) if (data[i] !== 0) return false
  return true
}

/** Exchanges what is drawn and what stays. */
export function invertMask(mask: Mask): Mask {
  requireMask(mask)
  return { ...mask, data: mask.data.map((value) => 255 - value) }
}

/** Scales a mask as `resizeImage` does an image (Pillow's Lanczos filter); the border of 'contain' stays. */
export function resizeMask(mask: Mask, width: number, height: number, mode: Exclude<ResizeMode, 'none'>): Mask {
  requireMask(mask)
  requireSides('the new size', width, height)
  requireOneOf(
    'resize',
    mode,
    RESIZE_MODES.filter((mode) => mode !== 'none'),
  )
  const data = resizePlanes(mask.data, [mask.height, mask.width, 1], [height, width], mode, 'lanczos', [0])
  return { data, width, height }
}

const MOST_RADIUS = 1024

/**
 * Softens the edge of a mask by a Gaussian blur, as Pillow's GaussianBlur computes it (three box blurs). Outside the
 * mask its border continues.
 *
 * @param radius standard deviation in pixels, 0 to 1024
 *
 * Source: python-pillow/Pillow `src/libImaging/BoxBlur.c`. Gwosdek, Grewenig, Bruhn, Weickert: Theoretical foundations of
 * Gaussian convolution by extended box filtering, 2011.
 */
export function blurMask(mask: Mask, radius: number): Mask {
  requireMask(mask)
  if (!(typeof radius === 'number' && radius >= 0 && radius <= MOST_RADIUS))
    throw badOption('radius', radius, `a number from 0 to ${MOST_RADIUS}`)
  const { width, height } = mask
  const data = new Uint8Array(mask.data)
  if (radius === 0) return { ...mask, data }
  const box = boxRadius(radius)
  // every row, then every column, three times each
  for (let y = 0; y < height; y++) blurLine(data, y * width, 1, width, box)
  for (let x = 0; x < width; x++) blurLine(data, x, width, height, box)
  return { ...mask, data }
}

const BLUR_PASSES = 3

/** The fractional radius of a box whose blur, {@link BLUR_PASSES} times, has the variance of a Gaussian. */
function boxRadius(sigma: number): number {
  const variance = Math.fround((sigma * sigma) / BLUR_PASSES)
  const whole = Math.floor((Math.sqrt(12 * variance + 1) - 1) / 2)
  const fraction = ((2 * whole + 1) * (whole * (whole + 1) - 3 * variance)) / (6 * (variance - (whole + 1) ** 2))
  return Math.fround(whole + fraction)
}

/** Blurs values at a distance of `step`, in place, in fixed point with 24 fraction bits. */
function blurLine(data: Uint8Array, begin: number, step: number, length: number, radius: number): void {
  const whole = Math.trunc(radius)
  const inside = Math.trunc(Math.fround(2 ** 24 / Math.fround(radius * 2 + 1)))
  const edge = Math.trunc((2 ** 24 - (whole * 2 + 1) * inside) / 2)
  // with the first and the last value continued on both sides
  const margin = whole + 1
  const line = new Uint8Array(length + 2 * margin)
  for (let i = 0; i < length; i++) line[margin + i] = data[begin + i * step]!
  const blurred = new Uint8Array(length)
  for (let pass = 0; pass < BLUR_PASSES; pass++) {
    line.fill(line[margin]!, 0, margin).fill(line[margin + length - 1]!, margin + length)
    let sum = 0
    for (let i = 1; i < 2 * margin; i++) sum += line[i]!
    for (let i = 0; i < length; i++) {
      const [before, after] = [line[i]!, line[i + 2 * margin]!]
      blurred[i] = Math.floor((sum * inside + (before + after) * edge + 2 ** 23) / 2 ** 24)
      sum += after - line[i + 1]!
    }
    line.set(blurred, margin)
  }
  for (let i = 0; i < length; i++) data[begin + i * step] = blurred[i]!
}

/**
 * Grows the part that is drawn by a number of pixels on each side, diagonally as well; a negative number shrinks it. Each
 * pixel becomes the largest (smallest) of a square of 2 |pixels| + 1, as with Pillow's MaxFilter (MinFilter).
 *
 * @param pixels -1024 to 1024
 */
export function growMask(mask: Mask, pixels: number): Mask {
  requireMask(mask)
  requireWhole('pixels', pixels, -MOST_RADIUS, MOST_RADIUS)
  if (pixels < 0) return invertMask(growMask(invertMask(mask), -pixels))
  const { width, height } = mask
  let data = new Uint8Array(mask.data)
  // three windows of 2 r + 1 next to each other make one of 3 (2 r + 1)
  for (let radius = 0; radius < pixels; ) {
    const shift = Math.min(2 * radius + 1, pixels - radius)
    data = largestOfThree(largestOfThree(data, width, 1, shift), height, width, shift)
    radius += shift
  }
  return { ...mask, data }
}

/**
 * The largest of each value and those `shift` before and after it on its axis, which has `length` values at a distance
 * of `step`. At the ends of the axis the windows overlap more.
 */
function largestOfThree(
  data: Uint8Array<ArrayBuffer>,
  length: number,
  step: number,
  shift: number,
): Uint8Array<ArrayBuffer> {
  const largest = new Uint8Array(data.length)
  for (let outer = 0; outer < data.length; outer += length * step) {
    for (let position = 0; position < length; position++) {
      const before = Math.min(shift, position) * step
      const after = Math.min(shift, length - 1 - position) * step
      const begin = outer + position * step
      for (let i = begin; i < begin + step; i++) largest[i] = Math.max(data[i]!, data[i - before]!, data[i + after]!)
    }
  }
  return largest
}
