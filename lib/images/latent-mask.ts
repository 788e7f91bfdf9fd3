import { FluxError } from '../errors.js'
import { requireOneOf, requireWhole } from '../options/checks.js'
import type { Mask } from './edit-mask.js'
import { requirePixels } from './rgb-image.js'

/** pixels along each side of a latent pixel */
const REDUCTION = 8
const MOST_CHANNELS = 4096

/**
 * Scales a mask to the latent image, the same for all of its channels.
 *
 * 'blend' is diffusers' form: 1 where the top left pixel of each 8 x 8 is 128 or more, otherwise 0. 'denoised' is
 * ComfyUI's: bilinear without antialiasing, which is the mean of the four pixels in the middle of each 8 x 8, from 0 to 1.
 *
 * @param channels 1 to 4096
 * @returns [channels, height / 8, width / 8]
 * @throws FluxError FLUX_BAD_SHAPE for sides that are no multiples of 8
 *
 * Source: huggingface/diffusers `pipeline_flux_inpaint.py` (`mask_processor`, `prepare_mask_latents`);
 * Comfy-Org/ComfyUI `comfy/sampler_helpers.py` (`prepare_mask`).
 */
export function latentMask(mask: Mask, rule: 'blend' | 'denoised', channels = 1): Float32Array {
  requirePixels('mask', mask, 1)
  requireOneOf('rule', rule, ['blend', 'denoised'])
  requireWhole('channels', channels, 1, MOST_CHANNELS)
  const { data, width, height } = mask
  const [rows, columns] = [height / REDUCTION, width / REDUCTION]
  if (!Number.isInteger(rows) || !Number.isInteger(columns))
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `mask is ${width} x ${height}: give a width and a height that are multiples of 8`,
    )
  const plane = rows * columns
  const latent = new Float32Array(channels * plane)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const topLeft = row * REDUCTION * width + column * REDUCTION
      if (rule === 'blend') latent[i] = data[topLeft]! >= 128 ? 1 : 0
      else {
        const middle = topLeft + (REDUCTION / 2 - 1) * (width + 1)
        latent[i] = (data[middle]! + data[middle + 1]! + data[middle + width]! + data[middle + width + 1]!) / (4 * 255)
      }
    }
  }
  for (let channel = 1; channel < channels; channel++) latent.copyWithin(channel * plane, 0, plane)
  return latent
}
