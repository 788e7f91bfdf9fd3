import { combine } from './combine.js'
import { intervals } from './intervals.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/**
 * Sampler of consistency models: the estimate of the image, with new noise at the next level, for rectified flow.
 * diffusers calls it stochastic sampling.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_lcm`); huggingface/diffusers
 * `FlowMatchEulerDiscreteScheduler` (`stochastic_sampling`).
 */
export async function* lcm({
  estimate,
  latents,
  sigmas,
  noise,
}: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  for (const { sigma, next } of intervals(sigmas)) {
    const { denoised } = await estimate(x, sigma)
    x = next === 0 ? denoised : combine([1 - next, denoised], [next, noise(sigma, next)])
    yield { denoised, latents: x }
  }
}
