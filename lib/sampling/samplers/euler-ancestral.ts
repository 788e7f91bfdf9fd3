import { combine } from './combine.js'
import { intervals } from './intervals.js'
import type { Sampler } from './sampler.js'

export interface EulerAncestralOptions {
  /** share of the step's noise that is replaced by new noise, 0 to 1. @default 1 */
  eta?: number
  /** factor of the new noise. @default 1 */
  noiseScale?: number
}

/**
 * Euler's method to a level below the next one, then new noise up to it, in the form for rectified flow. The last step
 * returns the estimate of the image.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_euler_ancestral_RF`).
 */
export function eulerAncestral({ eta = 1, noiseScale = 1 }: EulerAncestralOptions = {}): Sampler {
  return async function* ({ estimate, latents, sigmas, noise }) {
    let x = latents
    for (const { sigma, next } of intervals(sigmas)) {
      const { denoised } = await estimate(x, sigma)
      if (next === 0) x = denoised
      else {
        const down = next * (1 + (next / sigma - 1) * eta)
        // the image's share shrinks from 1 - down to 1 - next; the new noise is what is then missing to `next`
        const shrink = (1 - next) / (1 - down)
        const added = Math.sqrt(next ** 2 - (down * shrink) ** 2)
        const kept = down / sigma
        x = combine([shrink * kept, x], [shrink * (1 - kept), denoised], [noiseScale * added, noise(sigma, next)])
      }
      yield { denoised, latents: x }
    }
  }
}
