import { combine } from './combine.js'
import { intervals } from './intervals.js'
import type { Sampler } from './sampler.js'

/** Noise levels of a step: where it starts and ends, and where the previous one started. */
interface Levels {
  sigma: number
  next: number
  previous: number
}

/**
 * A multistep sampler of second order: each step adds this and the previous estimate of the image to what is kept of the
 * state. The first and the last step use this step's estimate alone, as Euler's.
 *
 * @param weights of this and the previous estimate
 */
export function fromTwoEstimates(weights: (levels: Levels) => readonly [current: number, previous: number]): Sampler {
  return async function* ({ estimate, latents, sigmas }) {
    let x = latents
    let previous: { denoised: Float32Array; sigma: number } | undefined
    for (const { sigma, next } of intervals(sigmas)) {
      const { denoised } = await estimate(x, sigma)
      const kept = next / sigma
      if (previous === undefined || next === 0) x = combine([kept, x], [1 - kept, denoised])
      else {
        const [current, before] = weights({ sigma, next, previous: previous.sigma })
        x = combine([kept, x], [current, denoised], [before, previous.denoised])
      }
      previous = { denoised, sigma }
      yield { denoised, latents: x }
    }
  }
}
