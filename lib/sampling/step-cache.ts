import type { Predict } from './samplers.js'

interface Known {
  sigma: number
  velocity: Float32Array
}

/** Degree of the polynomial that extrapolates the velocity. */
const DEGREE = 2
/** velocities that are extrapolated in a row; more would be unreliable without an evaluation */
const MOST_REUSED = 4

/**
 * Skips evaluations of the model while its velocity changes smoothly. Each element is extrapolated by the parabola
 * through the last three evaluated noise levels. Each evaluation shows the error of the extrapolation: the difference
 * from the value that would have been extrapolated. By the theorem on the interpolation error, it is a derivative times
 * the product of the distances. This predicts the error of the next velocity. The velocity is extrapolated while the
 * predicted error is within `tolerance`, relative to the velocity's length, and at most four times in a row. Otherwise
 * the model is evaluated.
 *
 * A higher-order sampler may request the same noise level again, with a changed state. If the first velocity was
 * evaluated, the second one is evaluated as well and replaces it. A sampler that goes back to a higher level (restart
 * sampling) starts a new trajectory, and all earlier velocities are discarded.
 *
 * The idea comes from caches for diffusion transformers that predict features (Liu et al. 2025, "From Reusing to
 * Forecasting"). Here it is applied to the model's output instead of its features, with step size control as in solvers
 * of differential equations.
 */
export class StepCache {
  readonly #predict: Predict
  readonly #tolerance: number
  /** evaluated velocities, the latest first */
  #known: Known[] = []
  /** relative error per product of distances; unknown until the fourth evaluation */
  #growth = Infinity
  /** extrapolated velocities in a row */
  #reused = 0
  /** the last requested noise level */
  #last = Infinity
  readonly #phaseAt: (sigma: number) => unknown

  /**
   * @param predict the model with everything that changes its prediction, such as guidance
   * @param tolerance relative error of a velocity, above 0
   * @param phaseAt names what the model is at a noise level, such as `guidancePhase`; where that changes, all earlier
   *   velocities are discarded. @default always the same
   */
  constructor(predict: Predict, tolerance: number, phaseAt: (sigma: number) => unknown = () => undefined) {
    this.#predict = predict
    this.#tolerance = tolerance
    this.#phaseAt = phaseAt
  }

  predict: Predict = async (x, sigma) => {
    const isNew = sigma > this.#last || this.#phaseAt(sigma) !== this.#phaseAt(this.#last)
    if (isNew) [this.#known, this.#growth] = [[], Infinity]
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

  /** Evaluates Lagrange's polynomial through the known velocities at `sigma`. */
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

/** Returns the length of the difference divided by the length of `expected`. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  let [difference, length] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    length += expected[i]! ** 2
  }
  return Math.sqrt(difference / length)
}
