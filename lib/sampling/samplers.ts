/** Returns the network's output for `x` at `sigma`, of the same length; in FLUX the velocity. Must not change `x`. */
export type Predict = (x: Float32Array, sigma: number) => Promise<Float32Array>

/** The model's estimate at a state. */
export interface SamplerEstimate {
  /** the image as the model predicts it */
  denoised: Float32Array
  /** dx/dsigma = (x - denoised) / sigma: the direction away from the image */
  derivative: Float32Array
}

export interface SamplerInput {
  /** evaluates the model at `x` and noise level `sigma` */
  estimate: (x: Float32Array, sigma: number) => Promise<SamplerEstimate>
  /** the state to start from, at noise level sigmas[0]; not changed */
  latents: Float32Array
  /** strictly decreasing noise levels; one step leads from each to the next */
  sigmas: readonly number[]
}

export interface SamplerStep {
  /** the image as the model predicts it in this step */
  denoised: Float32Array
  /** the state after the step, at the next sigma; a new array in every step. The loop may change it before the next step */
  latents: Float32Array
}

/**
 * Moves the state along the sigmas and yields once per step. A higher-order sampler calls `estimate` several times in
 * between. A sampler does not depend on the meaning of the network's output, so it works for all families of models.
 */
export type Sampler = (input: SamplerInput) => AsyncGenerator<SamplerStep, void, undefined>

/** Euler's method, the official sampler. Source: black-forest-labs/flux `src/flux/sampling.py` (`denoise`). */
export async function* euler({
  estimate,
  latents,
  sigmas,
}: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const { denoised, derivative } = await estimate(x, sigmas[i]!)
    x = addScaled(x, derivative, sigmas[i + 1]! - sigmas[i]!)
    yield { denoised, latents: x }
  }
}

/** Samplers by name. Add new ones here, each with a test against values from its reference. */
export const SAMPLERS = { euler } satisfies Record<string, Sampler>

export type SamplerName = keyof typeof SAMPLERS

/** Returns x + factor * direction as a new array. */
export function addScaled(x: Float32Array, direction: Float32Array, factor: number): Float32Array {
  const sum = new Float32Array(x.length)
  for (let i = 0; i < sum.length; i++) sum[i] = x[i]! + factor * direction[i]!
  return sum
}
