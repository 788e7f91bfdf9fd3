/** The velocity that the model predicts at `x` and noise level `sigma`; of the same length as `x`. Must not change `x`. */
export type Predict = (x: Float32Array, sigma: number) => Promise<Float32Array>

export interface SamplerInput {
  predict: Predict
  /** the state to start from, at noise level sigmas[0]; not changed */
  latents: Float32Array
  /** strictly decreasing noise levels; one step leads from each to the next */
  sigmas: readonly number[]
}

export interface SamplerStep {
  /** the state before the step, at its sigma */
  x: Float32Array
  /** the model's velocity at `x`, from which the denoised picture is estimated */
  velocity: Float32Array
  /** the state after the step, at the next sigma; a new array in every step */
  latents: Float32Array
}

/**
 * Integrates dx/dsigma = velocity along the sigmas and yields once per step; a sampler of higher order calls `predict` several times in
 * between. Noise level and velocity are those of rectified flow: x = (1 - sigma) * picture + sigma * noise, velocity = noise - picture.
 */
export type Sampler = (input: SamplerInput) => AsyncGenerator<SamplerStep, void, undefined>

/** Euler's method, the official sampler. Source: black-forest-labs/flux `src/flux/sampling.py` (`denoise`). */
export async function* euler({ predict, latents, sigmas }: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const velocity = await predict(x, sigmas[i]!)
    const next = addScaled(x, velocity, sigmas[i + 1]! - sigmas[i]!)
    yield { x, velocity, latents: next }
    x = next
  }
}

/** Samplers by name. Add one here, and a test with figures from its reference. */
export const SAMPLERS = { euler } satisfies Record<string, Sampler>

export type SamplerName = keyof typeof SAMPLERS

/** x + factor * direction as a new array */
export function addScaled(x: Float32Array, direction: Float32Array, factor: number): Float32Array {
  const sum = new Float32Array(x.length)
  for (let i = 0; i < sum.length; i++) sum[i] = x[i]! + factor * direction[i]!
  return sum
}
