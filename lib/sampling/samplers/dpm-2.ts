import { addScaled } from './combine.js'
import { intervals } from './intervals.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/**
 * DPM-Solver-2: the direction at the geometric mean of a step's two levels; Euler's method for the step to 0.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_dpm_2`); Lu et al., arXiv:2206.00927.
 */
export async function* dpm2({ estimate, latents, sigmas }: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  for (const { sigma, next } of intervals(sigmas)) {
    const { denoised, derivative } = await estimate(x, sigma)
    if (next === 0) x = addScaled(x, derivative, -sigma)
    else {
      const middle = Math.sqrt(sigma * next)
      const half = await estimate(addScaled(x, derivative, middle - sigma), middle)
      x = addScaled(x, half.derivative, next - sigma)
    }
    yield { denoised, latents: x }
  }
}
