import { addScaled, combine } from './combine.js'
import { intervals } from './intervals.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/**
 * Heun's method: the mean of the directions at both ends of a step; Euler's method for the step to 0.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_heun`); Karras et al., arXiv:2206.00364,
 * algorithm 1.
 */
export async function* heun({ estimate, latents, sigmas }: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  for (const { sigma, next } of intervals(sigmas)) {
    const width = next - sigma
    const { denoised, derivative } = await estimate(x, sigma)
    const end = addScaled(x, derivative, width)
    if (next === 0) x = end
    else x = combine([1, x], [width / 2, derivative], [width / 2, (await estimate(end, next)).derivative])
    yield { denoised, latents: x }
  }
}
