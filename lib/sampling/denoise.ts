import { FluxError } from '../errors.js'
import { addScaled, euler, type Predict, type Sampler } from './samplers.js'

export interface DenoiseOptions {
  /** the model, with its text, guidance and conditions bound */
  predict: Predict
  /** the state to start from, at noise level sigmas[0]: noise where that is 1. Not changed. */
  latents: Float32Array
  /** from `schedule` or `customSigmas` */
  sigmas: readonly number[]
  /** @default euler */
  sampler?: Sampler
  signal?: AbortSignal | undefined
}

export interface DenoiseStep {
  /** from 1 to `steps` */
  step: number
  steps: number
  /** noise level before the step */
  sigma: number
  /** noise level after it, that of `latents` */
  sigmaNext: number
  /** the state after the step; the result once the loop ends */
  latents: Float32Array
  /** the picture as the model sees it in this step, x - sigma * velocity; computed when first read */
  readonly denoised: Float32Array
}

/**
 * The denoising loop: from noise to latents, one event per step. An abort rejects with `signal.reason` before and after each evaluation of
 * the model; hand the signal to the model as well to stop within one.
 *
 * @throws FluxError FLUX_BAD_SHAPE when the model returns another number of values than it was given
 */
export async function* denoise(options: DenoiseOptions): AsyncGenerator<DenoiseStep, void, undefined> {
  const { latents, sigmas, sampler = euler, signal } = options
  const predict: Predict = async (x, sigma) => {
    signal?.throwIfAborted()
    const velocity = await options.predict(x, sigma)
    signal?.throwIfAborted()
    if (velocity.length !== x.length) {
      throw new FluxError(
        'FLUX_BAD_SHAPE',
        `predict returned ${velocity.length} values for ${x.length}: return as many as it is given`,
      )
    }
    return velocity
  }
  const steps = sigmas.length - 1
  let step = 0
  for await (const { x, velocity, latents: next } of sampler({ predict, latents, sigmas })) {
    const sigma = sigmas[step]!
    const sigmaNext = sigmas[++step]!
    let denoised: Float32Array | undefined
    yield {
      step,
      steps,
      sigma,
      sigmaNext,
      latents: next,
      get denoised() {
        return (denoised ??= addScaled(x, velocity, -sigma))
      },
    }
  }
}
