import { combine, type Term } from './combine.js'
import { intervals } from './intervals.js'
import type { Sampler } from './sampler.js'

/**
 * A sampler that moves the state by a weighted sum of this and earlier directions. The last step returns the estimate
 * of the image.
 *
 * @param order number of directions at most
 * @param weights for the step from levels[0] to `next`, after steps from levels[1], levels[2], …: one for each level
 */
export function linearMultistep(
  order: number,
  weights: (levels: readonly number[], next: number) => readonly number[],
): Sampler {
  return async function* ({ estimate, latents, sigmas }) {
    let x = latents
    const directions: Float32Array[] = []
    const levels: number[] = []
    for (const { sigma, next } of intervals(sigmas)) {
      const { denoised, derivative } = await estimate(x, sigma)
      directions.unshift(derivative)
      levels.unshift(sigma)
      directions.length = levels.length = Math.min(levels.length, order)
      const moves = (): Term[] => weights(levels, next).map((weight, i) => [weight, directions[i]!])
      x = next === 0 ? denoised : combine([1, x], ...moves())
      yield { denoised, latents: x }
    }
  }
}
