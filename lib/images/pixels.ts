import { FluxError } from '../errors.js'

/**
 * Converts [-1, 1] to a byte: 127.5 * (x + 1) in float32, truncated (not rounded); values outside are clamped, NaN
 * gives 0.
 */
export function toByte(x: number): number {
  const value = Math.fround(127.5 * Math.fround(x + 1))
  return value >= 255 ? 255 : value > 0 ? Math.trunc(value) : 0
}

/**
 * Converts planes of the autoencoder to RGB bytes, as the official code does (see {@link toByte}).
 *
 * @param image [3, height, width] in [-1, 1]
 * @returns [height, width, 3]
 * @throws FluxError FLUX_BAD_SHAPE
 * Source: black-forest-labs/flux `src/flux/util.py` (`save_image`).
 */
export function toBytes(image: Float32Array, width: number, height: number): Uint8Array<ArrayBuffer> {
  requireLength(image.length, width, height)
  const plane = width * height
  const rgb = new Uint8Array(plane * 3)
  for (let i = 0, o = 0; i < plane; i++) {
    rgb[o++] = toByte(image[i]!)
    rgb[o++] = toByte(image[plane + i]!)
    rgb[o++] = toByte(image[2 * plane + i]!)
  }
  return rgb
}

export function requireLength(length: number, width: number, height: number): void {
  const sized = [width, height].every((side) => Number.isSafeInteger(side) && side > 0)
  if (!sized)
    throw new FluxError('FLUX_BAD_SHAPE', `the image is ${width} wide and ${height} high: give whole numbers from 1`)
  if (length !== width * height * 3) {
    const needed = width * height * 3
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `the image has ${length} values: ${width} x ${height} with 3 channels needs ${needed}`,
    )
  }
}
