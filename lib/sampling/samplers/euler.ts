import { addScaled } from './combine.js'
import { intervals } from './intervals.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/** Euler's method, the official sampler. Source: black-forest-labs/flux `src/flux/sampling.py` (`denoise`). */
export async function* euler({
  estimate,
  latents,
  sigmas,
}: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  for (const { sigma, next } of intervals(sigmas)) {
    const { denoised, derivative } = await estimate(x, sigma)
    x = addScaled(x, derivative, next - sigma)
    yield { denoised, latents: x }
  }
}
