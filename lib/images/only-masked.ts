import { FluxError } from '../errors.js'
import { badOption, requireWhole } from '../options/checks.js'
import type { Mask } from './edit-mask.js'
import { resample } from './resample.js'
import { requirePixels, requireRgbImage, requireSides, type RgbImage } from './rgb-image.js'

/** Part of an image, in pixels. */
export interface Rectangle {
  x: number
  y: number
  width: number
  height: number
}

/**
 * Returns the part of an image around what a mask draws, so that it can be drawn at full size: the smallest rectangle
 * with `padding` on each side, extended to the aspect of width to height and moved to be within the image. An image that
 * is too small for this aspect ends the rectangle at its edges; draw that at a size of `fitSize(rectangle.width,
 * rectangle.height, 16, width * height)`, so that nothing is distorted.
 *
 * @param padding pixels, 0 to 4096
 * @param width of the size that the part is drawn at
 * @throws FluxError FLUX_BAD_OPTION for an empty mask
 */
export function onlyMasked(mask: Mask, padding: number, width: number, height: number): Rectangle {
  requirePixels('mask', mask, 1)
  requireWhole('padding', padding, 0, 4096)
  requireSides('the size', width, height)
  const bounds = boundsOf(mask)
  const x = widened(bounds.x, bounds.width, padding, mask.width)
  const y = widened(bounds.y, bounds.height, padding, mask.height)
  if (x.length * height > width * y.length) {
    return rectangle(x, extended(y, Math.round((x.length * height) / width), mask.height))
  }
  return rectangle(extended(x, Math.round((y.length * width) / height), mask.width), y)
}

/** part of an axis */
interface Range {
  begin: number
  length: number
}

const rectangle = (x: Range, y: Range): Rectangle => ({ x: x.begin, y: y.begin, width: x.length, height: y.length })

function boundsOf({ data, width, height }: Mask): Rectangle {
  let [left, top, right, bottom] = [width, height, -1, -1]
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (data[i] === 0) continue
      left = Math.min(left, x)
      right = Math.max(right, x)
      top = Math.min(top, y)
      bottom = y
    }
  }
  if (bottom < 0)
    throw new FluxError('FLUX_BAD_OPTION', 'mask is empty: give one that is white where the image is drawn anew')
  return { x: left, y: top, width: right - left + 1, height: bottom - top + 1 }
}

function widened(begin: number, length: number, padding: number, most: number): Range {
  const first = Math.max(begin - padding, 0)
  return { begin: first, length: Math.min(begin + length + padding, most) - first }
}

/** Extends a range equally on both sides, or moves it if that would leave the image. */
function extended({ begin, length }: Range, wanted: number, most: number): Range {
  const longer = Math.min(wanted, most)
  const first = begin - Math.floor((longer - length) / 2)
  return { begin: Math.min(Math.max(first, 0), most - longer), length: longer }
}

/** Returns the part of an image in a rectangle. */
export function cropImage(image: RgbImage, rectangle: Rectangle): RgbImage {
  requireRgbImage('image', image)
  requireWithin(image, rectangle)
  const { width, height } = rectangle
  const alpha = image.alpha && crop(image.alpha, image.width, 1, rectangle)
  return { data: crop(image.data, image.width, 3, rectangle), width, height, ...(alpha && { alpha }) }
}

/** Returns the part of a mask in a rectangle. */
export function cropMask(mask: Mask, rectangle: Rectangle): Mask {
  requirePixels('mask', mask, 1)
  requireWithin(mask, rectangle)
  return { data: crop(mask.data, mask.width, 1, rectangle), width: rectangle.width, height: rectangle.height }
}

function crop(data: Uint8Array, rowLength: number, channels: number, { x, y, width, height }: Rectangle): Uint8Array {
  const cropped = new Uint8Array(width * height * channels)
  for (let row = 0; row < height; row++) {
    const begin = ((y + row) * rowLength + x) * channels
    cropped.set(data.subarray(begin, begin + width * channels), row * width * channels)
  }
  return cropped
}

/**
 * Puts what was drawn for a rectangle back into its image, scaled if it has another size. Pixels where the mask is 0,
 * and those outside of the rectangle, stay identical; 255 takes the drawn pixel, values in between mix.
 *
 * @param mask of the size of `original`, with a soft edge from `blurMask` for example
 */
export function pasteBack(original: RgbImage, drawn: RgbImage, rectangle: Rectangle, mask: Mask): RgbImage {
  requireRgbImage('original', original)
  requireRgbImage('drawn', drawn)
  requirePixels('mask', mask, 1)
  requireWithin(original, rectangle)
  if (mask.width !== original.width || mask.height !== original.height)
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `mask is ${mask.width} x ${mask.height}: give one of the image's size, ${original.width} x ${original.height}`,
    )
  const { x, y, width, height } = rectangle
  const fits = drawn.width === width && drawn.height === height
  const scaled = fits ? drawn.data : resample(drawn.data, [drawn.height, drawn.width, 3], [height, width])
  const data = new Uint8Array(original.data)
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      const at = (y + row) * original.width + x + column
      const share = mask.data[at]!
      for (let c = 0; c < 3; c++)
        data[at * 3 + c] = Math.round((scaled[i * 3 + c]! * share + data[at * 3 + c]! * (255 - share)) / 255)
    }
  }
  return { ...original, data }
}

function requireWithin(image: { width: number; height: number }, rectangle: Rectangle): void {
  if (typeof rectangle !== 'object' || rectangle === null)
    throw badOption('rectangle', rectangle, '{ x, y, width, height } as onlyMasked returns it')
  const { x, y, width, height } = rectangle
  requireWhole('rectangle.width', width, 1, image.width)
  requireWhole('rectangle.height', height, 1, image.height)
  requireWhole('rectangle.x', x, 0, image.width - width)
  requireWhole('rectangle.y', y, 0, image.height - height)
}
