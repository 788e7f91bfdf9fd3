import { FluxError } from '../errors.js'
import { toByte } from './pixels.js'

type Rgb = readonly [red: number, green: number, blue: number]

/** A linear fit to an autoencoder: colour, from -1 to 1, is the sum of `factors` times the channels, and `bias`. */
export interface LatentRgb {
  /** one for each of the 16 channels */
  factors: readonly Rgb[]
  bias: Rgb
}

/** Of FLUX.1's autoencoder. Source: comfyanonymous/ComfyUI `comfy/latent_formats.py` (`Flux`). */
const FLUX_RGB: LatentRgb = {
  factors: [
    [-0.0346, 0.0244, 0.0681],
    [0.0034, 0.021, 0.0687],
    [0.0275, -0.0668, -0.0433],
    [-0.0174, 0.016, 0.0617],
    [0.0859, 0.0721, 0.0329],
    [0.0004, 0.0383, 0.0115],
    [0.0405, 0.0861, 0.0915],
    [-0.0236, -0.0185, -0.0259],
    [-0.0245, 0.025, 0.118],
    [0.1008, 0.0755, -0.0421],
    [-0.0515, 0.0201, 0.0011],
    [0.0428, -0.0012, -0.0036],
    [0.0817, 0.0765, 0.0749],
    [-0.1264, -0.0522, -0.1103],
    [-0.028, -0.0881, -0.0499],
    [-0.1262, -0.0982, -0.0778],
  ],
  bias: [-0.0329, -0.0718, -0.0851],
}

export interface LatentPreview {
  /** RGB, 3 bytes a pixel, row by row */
  data: Buffer
  width: number
  height: number
}

/**
 * A small picture of a latent without the autoencoder: a linear map from the 16 channels to red, green and blue.
 *
 * @param latent [16, h, w], as the sampler leaves it; `denoised` of a step shows the most
 * @param height h
 * @param width w
 * @param enlargement each latent becomes a square of so many pixels; 8 gives the final size. Defaults to 1.
 * @param latentRgb the fit; that of FLUX.1's autoencoder by default
 * @throws FluxError FLUX_BAD_SHAPE for a latent of another length, FLUX_BAD_OPTION for an enlargement other than 1 to 16
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
      `the latent has ${latent.length} values: give [16, ${height}, ${width}], which is ${16 * plane}`,
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
