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
  /**
   * Returns new standard normal noise in the shape of the state, for the way from one noise level to a lower one. Each
   * call returns other noise.
   *
   * @throws FluxError FLUX_BAD_OPTION if `denoise` was given no noise
   */
  noise: (sigma: number, sigmaNext: number) => Float32Array
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
