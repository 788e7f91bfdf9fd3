import { FluxError } from '../errors.js'
import { FLUX_RGB } from './flux1/latent.js'
import type { LatentRgb } from './latent-format.js'
import { toByte } from '../images/pixels.js'

export interface LatentPreview {
  /** RGB, 3 bytes per pixel, row by row */
  data: Buffer
  width: number
  height: number
}

/**
 * Makes a small image from a latent without the autoencoder, by a linear map from the 16 channels to RGB.
 *
 * @param latent [16, h, w], as the sampler produces it; the `denoised` of a step shows the most
 * @param height h
 * @param width w
 * @param enlargement side in pixels of the square for each latent; 8 gives the final size. Defaults to 1.
 * @param latentRgb the linear fit; by default the one for FLUX.1's autoencoder
 * @throws FluxError FLUX_BAD_SHAPE for a latent of another length, FLUX_BAD_OPTION for an enlargement outside
 *   1 to 16
 */
export function latentPreview(
  latent: Float32Array,
  height: number,
  width: number,
  enlargement = 1,
  { factors, bias }: LatentRgb = FLUX_RGB,
): LatentPreview {
  const plane = height * width
  if (latent.length !== factors.length * plane || plane === 0) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `the latent has ${latent.length} values: give [${factors.length}, ${height}, ${width}], which is ${factors.length * plane}`,
    )
  }
  if (!Number.isInteger(enlargement) || enlargement < 1 || enlargement > 16) {
    throw new FluxError('FLUX_BAD_OPTION', `enlargement is ${enlargement}: give a whole number from 1 to 16`)
  }
  const small = Buffer.alloc(plane * 3)
  for (let i = 0; i < plane; i++) {
    let [red, green, blue] = bias
    for (let c = 0; c < factors.length; c++) {
      const value = latent[c * plane + i]!
      const factor = factors[c]!
      red += factor[0] * value
      green += factor[1] * value
      blue += factor[2] * value
    }
    small[i * 3] = toByte(red)
    small[i * 3 + 1] = toByte(green)
    small[i * 3 + 2] = toByte(blue)
  }
  const data = enlargement === 1 ? small : enlarge(small, height, width, enlargement)
  return { data, width: width * enlargement, height: height * enlargement }
}

function enlarge(rgb: Buffer, height: number, width: number, factor: number): Buffer {
  const stride = width * factor * 3
  const large = Buffer.alloc(stride * height * factor)
  for (let y = 0; y < height; y++) {
    const begin = y * factor * stride
    for (let x = 0; x < width * factor; x++) {
      const from = (y * width + Math.floor(x / factor)) * 3
      rgb.copy(large, begin + x * 3, from, from + 3)
    }
    for (let repeat = 1; repeat < factor; repeat++) large.copy(large, begin + repeat * stride, begin, begin + stride)
  }
  return large
}
