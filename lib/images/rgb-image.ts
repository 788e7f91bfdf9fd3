import { inspect } from 'node:util'
import { FluxError } from '../errors.js'
import { badOption, requireWhole } from '../options/checks.js'

/** An image in memory: 8 bits per channel, sRGB. */
export interface RgbImage {
  /** [height, width, 3] */
  data: Uint8Array
  width: number
  height: number
  /** [height, width], 0 (transparent) to 255 (opaque); absent if the image has no alpha channel */
  alpha?: Uint8Array | undefined
}

/** Pixels of the caller's own, row by row. An {@link RgbImage} or a mask is one as well. */
export interface RawImage {
  /** [height, width, channels] */
  data: Uint8Array
  width: number
  height: number
  /** 1 grey, 3 RGB, 4 RGB and alpha. @default what `data` has per pixel */
  channels?: 1 | 3 | 4
  /** [height, width]; only next to 1 or 3 channels */
  alpha?: Uint8Array | undefined
}

/** A path, the bytes of an image file, or pixels. */
export type ImageSource = string | Uint8Array | RawImage

/** Pixels as a decoder returns them. */
export interface Pixels {
  /** [height, width, channels] */
  data: Uint8Array
  width: number
  height: number
  channels: 1 | 3 | 4
}

/** The largest side of an image, which PNG and most libraries can handle. */
const MOST_SIDE = 2 ** 16

/**
 * @throws FluxError FLUX_BAD_OPTION for what is no pixels, and for sizes that are not whole; FLUX_BAD_SHAPE for sizes that
 *   do not match the number of values
 */
export function requirePixels(name: string, pixels: Omit<Pixels, 'channels'>, channels: number): void {
  if (typeof pixels !== 'object' || pixels === null) throw badOption(name, pixels, '{ data, width, height }')
  const { data, width, height } = pixels
  requireSides(name, width, height)
  if (!(data instanceof Uint8Array)) throw badOption(`${name}.data`, data, 'a Uint8Array')
  if (data.length !== width * height * channels)
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `${name}.data has ${data.length} values: ${width} x ${height} with ${channels} per pixel needs ${width * height * channels}`,
    )
}

export function requireSides(name: string, width: number, height: number): void {
  requireWhole(`${name}.width`, width, 1, MOST_SIDE)
  requireWhole(`${name}.height`, height, 1, MOST_SIDE)
}

/** @throws FluxError when it is no image in memory */
export function requireRgbImage(name: string, image: RgbImage): void {
  if (typeof image !== 'object' || image === null)
    throw badOption(name, image, '{ data, width, height } as readImage returns it')
  requirePixels(name, image, 3)
  if (image.alpha !== undefined) requirePixels(`${name}.alpha`, { ...image, data: image.alpha }, 1)
}

/** Checks the caller's own pixels and copies them. */
export function readRaw(name: string, image: RawImage): { pixels: Pixels; alpha: Uint8Array | undefined } {
  const { data, width, height, alpha } = image
  requireSides(name, width, height)
  if (!(data instanceof Uint8Array)) throw badOption(`${name}.data`, data, 'a Uint8Array')
  const channels = image.channels ?? data.length / (width * height)
  if (channels !== 1 && channels !== 3 && channels !== 4)
    throw badOption(`${name}.channels`, channels, '1 (grey), 3 (RGB) or 4 (RGB and alpha)')
  requirePixels(name, image, channels)
  if (alpha !== undefined) {
    if (channels === 4) throw badOption(`${name}.alpha`, inspect(alpha), 'nothing, because 4 channels include alpha')
    requirePixels(`${name}.alpha`, { ...image, data: alpha }, 1)
  }
  return { pixels: { data: new Uint8Array(data), width, height, channels }, alpha: alpha && new Uint8Array(alpha) }
}
