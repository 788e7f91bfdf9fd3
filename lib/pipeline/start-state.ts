import type { Family, Variant } from '../families/family.js'
import { inBackground } from '../images/background.js'
import { latentMask } from '../images/latent-mask.js'
import type { Kept } from '../sampling/inpaint.js'
import { slerp } from '../sampling/slerp.js'
import { SAMPLER_TRAITS } from '../sampling/samplers.js'
import type { Settings } from './generate-options.js'
import type { PreparedImages } from './prepare-images.js'

export interface StartState {
  /** at the first noise level */
  latents: Float32Array
  /** what stays of the image, with a mask that the denoiser does not read itself */
  keep?: Kept
}

/** Returns the state that the first step starts from: noise, or an image with noise, and a part of it may stay. */
export async function startState(
  { prediction }: Family,
  { latent, reads }: Variant,
  { width, height, seed, variation, noise: variant, sigmas, sampler, images }: Settings,
  prepared: Pick<PreparedImages, 'encoded' | 'mask'> | undefined,
): Promise<StartState> {
  const { channels, reduction, toState } = latent
  const [rows, columns] = [height / reduction, width / reduction]
  const noiseOf = (seed: number) => inBackground('gaussianNoise', [seed, [1, channels, rows, columns], variant])
  const own = await noiseOf(seed)
  const varied = variation ? slerp(own, await noiseOf(variation.seed), variation.strength) : own
  const noise = toState(varied, rows, columns)
  const image = prepared?.encoded?.image
  if (!image) return { latents: noise }
  const latents = prediction.noised(image, noise, sigmas[0]!)
  if (!prepared.mask || reads === 'fill') return { latents }
  const form = images!.convention === 'comfyui' ? 'denoised' : 'blend'
  const mask = toState(latentMask(prepared.mask, form, channels), rows, columns)
  const rule = SAMPLER_TRAITS[sampler].continuesFromState ? form : 'denoised'
  return { latents, keep: { image, noise, mask, rule } }
}
