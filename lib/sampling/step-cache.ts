import type { Predict } from './samplers.js'

interface Known {
  sigma: number
  velocity: Float32Array
}

/** Degree of the polynomial that continues the velocity. */
const DEGREE = 2
/** in a row, since what is not looked at cannot be foreseen */
const MOST_REUSED = 4

/**
 * Saves evaluations of the model where its velocity changes smoothly. Each element is continued from the last three evaluated noise levels by
 * the parabola through them. How wrong that is, an evaluation shows: its difference from what would have been continued, by the theorem on the
 * error of interpolation a derivative times the product of the distances. The next velocity is continued as long as the error that this foresees
 * stays below `tolerance`, relative to the velocity's length, and at most four times in a row; otherwise the model is asked.
 *
 * A sampler of higher order may ask again at a noise level, since the state has changed there: where the first velocity was evaluated, the second is as
 * well, and takes its place. One that goes back to a higher level (restart sampling) begins a new way, of which nothing is known.
 *
 * The idea is that of caches for diffusion transformers that forecast features (Liu et al. 2025, "From Reusing to Forecasting"), at the model's
 * output instead of inside it, with a step size control as in solvers of differential equations.
 */
export class StepCache {
  readonly #predict: Predict
  readonly #tolerance: number
  /** evaluated, the latest first */
  #known: Known[] = []
  /** relative error per product of distances; unknown until the fourth evaluation */
  #growth = Infinity
  /** in a row */
  #reused = 0
  /** noise level that was asked for last */
  #last = Infinity

  /** @param tolerance relative error of a velocity, above 0 */
  constructor(predict: Predict, tolerance: number) {
    this.#predict = predict
    this.#tolerance = tolerance
  }

  predict: Predict = async (x, sigma) => {
    if (sigma > this.#last) [this.#known, this.#growth] = [[], Infinity]
    this.#last = sigma
    const others = this.#known.filter((known) => known.sigma !== sigma)
    const again = others.length < this.#known.length
    const distances = others.reduce((product, known) => product * Math.abs(sigma - known.sigma), 1)
    if (!again && this.#reused < MOST_REUSED && this.#growth * distances <= this.#tolerance) {
      this.#reused++
      return this.#continued(sigma)
    }
    this.#reused = 0
    const velocity = await this.#predict(x, sigma)
    if (others.length > DEGREE) this.#growth = relativeError(this.#continued(sigma), velocity) / distances
    this.#known = [{ sigma, velocity }, ...others.slice(0, DEGREE)]
    return velocity
  }

  /** Lagrange's polynomial through what is known, at `sigma`. */
  #continued(sigma: number): Float32Array {
    const sum = new Float32Array(this.#known[0]!.velocity.length)
    for (const { sigma: here, velocity } of this.#known) {
      let weight = 1
      for (const { sigma: other } of this.#known) if (other !== here) weight *= (sigma - other) / (here - other)
      for (let i = 0; i < sum.length; i++) sum[i]! += weight * velocity[i]!
    }
    return sum
  }
}

/** Length of the difference over the length of `expected`. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  let [difference, length] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    length += expected[i]! ** 2
  }
  return Math.sqrt(difference / length)
}
