import { combine } from './combine.js'
import { intervals } from './intervals.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/**
 * RES: exponential integrator of second order from this and the previous estimate of the image. The first and the last
 * step are Euler's.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_res_multistep`); Zhang et al., arXiv:2308.02157.
 */
export async function* resMultistep({
  estimate,
  latents,
  sigmas,
}: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  let previous: { denoised: Float32Array; sigma: number } | undefined
  for (const { sigma, next } of intervals(sigmas)) {
    const { denoised } = await estimate(x, sigma)
    const kept = next / sigma
    if (previous === undefined || next === 0) x = combine([kept, x], [1 - kept, denoised])
    else {
      const width = Math.log(sigma / next)
      // place of the previous estimate, as a share of this step; negative
      const before = Math.log(sigma / previous.sigma) / width
      const phi1 = (1 - kept) / width
      const phi2 = (1 - phi1) / width
      x = combine([kept, x], [width * (phi1 - phi2 / before), denoised], [(width * phi2) / before, previous.denoised])
    }
    previous = { denoised, sigma }
    yield { denoised, latents: x }
  }
}
