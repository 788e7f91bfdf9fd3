import { FluxError } from '../errors.js'
import { keepInEstimates, keepInState, type Kept } from './inpaint.js'
import { flow, type Prediction } from './prediction.js'
import { euler, type Predict, type Sampler, type SamplerInput } from './samplers.js'

export interface DenoiseOptions {
  /** the model, with its text, guidance and conditions already bound */
  predict: Predict
  /** the state to start from, at noise level sigmas[0]: pure noise if that is 1. Not changed. */
  latents: Float32Array
  /** from `schedule` or `customSigmas` */
  sigmas: readonly number[]
  /** @default euler */
  sampler?: Sampler
  /**
   * noise for the samplers that add some, such as `stepNoise`, see `SamplerInput`
   *
   * @default none; such a sampler rejects with FLUX_BAD_OPTION
   */
  noise?: SamplerInput['noise']
  /** what the model's output means. @default flow */
  prediction?: Prediction
  /** what stays of an image. @default nothing */
  keep?: Kept | undefined
  signal?: AbortSignal | undefined
}

export interface DenoiseStep {
  /** from 1 to `steps` */
  step: number
  steps: number
  /** noise level before the step */
  sigma: number
  /** noise level after the step, the level of `latents` */
  sigmaNext: number
  /** the state after the step; the result once the loop ends */
  latents: Float32Array
  /** the image as the model predicts it in this step */
  denoised: Float32Array
}

/**
 * Runs the denoising loop from noise to latents, with one event per step. An abort rejects with `signal.reason` before
 * and after each evaluation of the model. Pass the signal to the model as well to stop within an evaluation.
 *
 * @throws FluxError FLUX_BAD_SHAPE when the model returns a different number of values than it received
 */
export async function* denoise(options: DenoiseOptions): AsyncGenerator<DenoiseStep, void, undefined> {
  const { predict, latents, sigmas, sampler = euler, noise = noNoise, prediction = flow, keep, signal } = options
  const evaluate: SamplerInput['estimate'] = async (x, sigma) => {
    signal?.throwIfAborted()
    const output = await predict(x, sigma)
    signal?.throwIfAborted()
    if (output.length !== x.length) {
      throw new FluxError(
        'FLUX_BAD_SHAPE',
        `predict returned ${output.length} values for ${x.length}: return as many as it is given`,
      )
    }
    return {
      denoised: prediction.denoised(x, output, sigma),
      derivative: prediction.derivative(x, output, sigma),
    }
  }
  const estimate = keep?.rule === 'denoised' ? keepInEstimates(evaluate, keep, prediction) : evaluate
  const steps = sigmas.length - 1
  let step = 0
  for await (const state of sampler({ estimate, latents, sigmas, noise })) {
    const sigma = sigmas[step]!
    const sigmaNext = sigmas[++step]!
    if (keep?.rule === 'blend') keepInState(state.latents, sigmaNext, keep, prediction)
    yield { step, steps, sigma, sigmaNext, ...state }
  }
}

function noNoise(): never {
  throw new FluxError('FLUX_BAD_OPTION', 'noise is undefined, but the sampler adds noise: give a function')
}
