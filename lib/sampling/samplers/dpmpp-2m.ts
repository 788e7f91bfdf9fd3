import { combine } from './combine.js'
import { intervals } from './intervals.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/**
 * DPM-Solver++(2M): extrapolates the estimate of the image from this and the previous step. The first and the last step
 * use this step's estimate alone.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_dpmpp_2m`); Lu et al., arXiv:2211.01095.
 */
export async function* dpmpp2m({
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
      // half the ratio of this step's width to the previous one's, in log sigma
      const ahead = Math.log(sigma / next) / Math.log(previous.sigma / sigma) / 2
      x = combine([kept, x], [(1 - kept) * (1 + ahead), denoised], [-(1 - kept) * ahead, previous.denoised])
    }
    previous = { denoised, sigma }
    yield { denoised, latents: x }
  }
}
