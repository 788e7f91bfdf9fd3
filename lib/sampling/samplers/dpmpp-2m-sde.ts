import { combine, type Term } from './combine.js'
import { intervals } from './intervals.js'
import { belowPureNoise, diffusionStep, noiseRatio } from './noise-ratio.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/**
 * DPM-Solver++(2M) of the reverse diffusion process with new noise in each step, midpoint form, for rectified flow. The
 * last step returns the estimate of the image.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_dpmpp_2m_sde`, eta 1); Lu et al.,
 * arXiv:2211.01095.
 */
export async function* dpmpp2mSde({
  estimate,
  latents,
  sigmas,
  noise,
}: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  let previous: { denoised: Float32Array; width: number } | undefined
  for (const { sigma, next } of intervals(belowPureNoise(sigmas))) {
    const { denoised } = await estimate(x, sigma)
    if (next === 0) x = denoised
    else {
      const factors = diffusionStep(sigma, next)
      // in log of the ratio of image to noise
      const width = Math.log(noiseRatio(sigma) / noiseRatio(next))
      const terms: Term[] = [
        [factors.state, x],
        [factors.denoised, denoised],
        [factors.noise, noise(sigma, next)],
      ]
      if (previous) {
        const ahead = (factors.denoised * width) / previous.width / 2
        terms.push([ahead, denoised], [-ahead, previous.denoised])
      }
      x = combine(...terms)
      previous = { denoised, width }
    }
    yield { denoised, latents: x }
  }
}
