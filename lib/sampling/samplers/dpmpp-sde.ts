import { combine } from './combine.js'
import { intervals } from './intervals.js'
import { belowPureNoise, diffusionStep, noiseRatio } from './noise-ratio.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/**
 * DPM-Solver++ of the reverse diffusion process with new noise at the middle and the end of each step, for rectified
 * flow. The last step returns the estimate of the image.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_dpmpp_sde`, eta 1, r 1/2); Lu et al.,
 * arXiv:2211.01095.
 */
export async function* dpmppSde({
  estimate,
  latents,
  sigmas,
  noise,
}: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  for (const { sigma, next } of intervals(belowPureNoise(sigmas))) {
    const { denoised } = await estimate(x, sigma)
    if (next === 0) x = denoised
    else {
      const start = x
      const moved = (to: number, image: Float32Array): Float32Array => {
        const factors = diffusionStep(sigma, to)
        return combine([factors.state, start], [factors.denoised, image], [factors.noise, noise(sigma, to)])
      }
      const ratio = Math.sqrt(noiseRatio(sigma) * noiseRatio(next))
      const middle = ratio / (1 + ratio)
      const half = await estimate(moved(middle, denoised), middle)
      x = moved(next, half.denoised)
    }
    yield { denoised, latents: x }
  }
}
