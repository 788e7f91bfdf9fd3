import type { Prediction } from './prediction.js'
import type { SamplerInput } from './samplers.js'

/** What stays of an image while its masked part is drawn. All arrays have the length of the state. */
export interface Kept {
  /** the image's state without noise */
  image: Float32Array
  /** the noise of the first state */
  noise: Float32Array
  /** 1 where the image is drawn, 0 where it stays; values in between mix */
  mask: Float32Array
  /**
   * 'blend': after each step, what stays is replaced by the image at the step's noise level (diffusers,
   * `pipeline_flux_inpaint.py`). 'denoised': what stays is replaced in the input and in the estimate of every evaluation
   * (ComfyUI, `KSamplerX0Inpaint`)
   */
  rule: 'blend' | 'denoised'
}

/** Returns mask * drawn + (1 - mask) * kept. */
function mix(mask: Float32Array, drawn: Float32Array, kept: Float32Array): Float32Array {
  return drawn.map((value, i) => mask[i]! * value + (1 - mask[i]!) * kept[i]!)
}

/** Wraps the evaluation for the rule 'denoised'. The derivative is taken at the state before the input was mixed. */
export function keepInEstimates(
  estimate: SamplerInput['estimate'],
  { image, noise, mask }: Kept,
  prediction: Prediction,
): SamplerInput['estimate'] {
  return async (x, sigma) => {
    const { denoised } = await estimate(mix(mask, x, prediction.noised(image, noise, sigma)), sigma)
    const mixed = mix(mask, denoised, image)
    return { denoised: mixed, derivative: x.map((value, i) => (value - mixed[i]!) / sigma) }
  }
}

/** Replaces what stays in a state, in place, for the rule 'blend'. */
export function keepInState(
  state: Float32Array,
  sigma: number,
  { image, noise, mask }: Kept,
  prediction: Prediction,
): void {
  state.set(mix(mask, state, sigma > 0 ? prediction.noised(image, noise, sigma) : image))
}
