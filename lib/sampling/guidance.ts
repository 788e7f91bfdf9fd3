import { badOption, requireOptions } from '../options/checks.js'
import { combine } from './samplers/combine.js'
import type { Predict } from './samplers/sampler.js'

export interface GuidanceOptions {
  /** how far the prediction moves from the negative prompt's to the prompt's, and beyond: 1 is the prompt's. */
  scale: number
  /** noise levels of the run, which say to which step a level belongs */
  sigmas: readonly number[]
  /** share of the steps after which guidance starts, 0 to 1. @default 0 */
  start?: number
  /** share of the steps after which guidance ends, 0 to 1. @default 1 */
  end?: number
  /**
   * CFG-Zero*: scales the negative prediction to the length that fits the positive one best. 'diffusers' scales the
   * velocity, as in the paper; 'comfyui' scales its estimate of the image, which gives another result. @default none
   */
  zeroStar?: ZeroStar
  /** first steps in which the prediction is zero, so that the state stays. @default 1 for 'diffusers', otherwise 0 */
  zeroInitSteps?: number
}

export type ZeroStar = 'diffusers' | 'comfyui'

export type GuidancePhase = 'zero' | 'guided' | 'unguided'

/**
 * Returns a function from a noise level to what `guided` does there. The model changes abruptly between phases, which a
 * `StepCache` has to know.
 *
 * A level belongs to the step that starts at it or above it. Of n steps, those from int(start * n) to int(end * n) - 1
 * are guided, as in diffusers' guiders. ComfyUI instead takes noise levels: its 0.5 is half of the time before the shift.
 *
 * @param label goes before the names of options in messages
 * @throws FluxError FLUX_BAD_OPTION for a value out of range
 */
export function guidancePhase(options: GuidanceOptions, label = ''): (sigma: number) => GuidancePhase {
  const { scale, sigmas, start, end, zeroInitSteps } = complete(options, label)
  const steps = sigmas.length - 1
  return (sigma) => {
    const step = sigmas.slice(1).filter((level) => level >= sigma).length
    if (step < zeroInitSteps) return 'zero'
    const within = step >= Math.trunc(start * steps) && step < Math.trunc(end * steps)
    return within && scale !== 1 ? 'guided' : 'unguided'
  }
}

/**
 * Classifier-free guidance: the prediction with the prompt, moved away from the one with the negative prompt. Ho and
 * Salimans, arXiv:2207.12598; Fan et al. (CFG-Zero*), arXiv:2503.18886.
 *
 * Sources: huggingface/diffusers `FluxPipeline` (`true_cfg_scale`), `ClassifierFreeZeroStarGuidance`;
 * Comfy-Org/ComfyUI `comfy_extras/nodes_cfg.py` (`CFGZeroStar`).
 *
 * @param cond predicts the velocity with the prompt
 * @param uncond predicts it with the negative prompt; not evaluated where it has no effect
 * @throws FluxError FLUX_BAD_OPTION for a value out of range
 */
export function guided(cond: Predict, uncond: Predict, options: GuidanceOptions): Predict {
  const { scale, zeroStar } = complete(options)
  const phaseAt = guidancePhase(options)
  return async (x, sigma) => {
    const phase = phaseAt(sigma)
    if (phase === 'zero') return new Float32Array(x.length)
    const positive = await cond(x, sigma)
    if (phase === 'unguided') return positive
    const negative = await uncond(x, sigma)
    const alpha = zeroStar ? projection(positive, negative) : 1
    const ways = [[scale, positive] as const, [(1 - scale) * alpha, negative] as const]
    // the part of the estimate of the image, x - sigma * velocity, that is scaled as well
    return combine(...ways, ...(zeroStar === 'comfyui' ? [[((1 - alpha) * (1 - scale)) / sigma, x] as const] : []))
  }
}

const OPTIONS = [
  'scale',
  'sigmas',
  'start',
  'end',
  'zeroStar',
  'zeroInitSteps',
] as const satisfies readonly (keyof GuidanceOptions)[]

/** Returns the factor of `negative` that comes closest to `positive`. */
function projection(positive: Float32Array, negative: Float32Array): number {
  let [product, square] = [0, 0]
  for (let i = 0; i < negative.length; i++) {
    product += positive[i]! * negative[i]!
    square += negative[i]! ** 2
  }
  return product / (square + 1e-8)
}

function complete(options: GuidanceOptions, label = '') {
  requireOptions('the options of guidance', options, OPTIONS)
  const { start = 0, end = 1, zeroStar, zeroInitSteps = zeroStar === 'diffusers' ? 1 : 0 } = options
  if (!Number.isFinite(options.scale)) throw badOption(`${label}scale`, options.scale, 'a finite number')
  if (!Array.isArray(options.sigmas) || !options.sigmas.every(Number.isFinite))
    throw badOption(`${label}sigmas`, options.sigmas, 'an array of noise levels')
  if (!(start >= 0 && start <= 1)) throw badOption(`${label}start`, start, 'a number from 0 to 1')
  if (!(end >= start && end <= 1)) throw badOption(`${label}end`, end, `a number from start (${start}) to 1`)
  if (zeroStar !== undefined && zeroStar !== 'diffusers' && zeroStar !== 'comfyui')
    throw badOption(`${label}zeroStar`, zeroStar, 'diffusers or comfyui')
  if (!Number.isInteger(zeroInitSteps) || zeroInitSteps < 0)
    throw badOption(`${label}zeroInitSteps`, zeroInitSteps, 'a whole number from 0')
  return { scale: options.scale, sigmas: options.sigmas, start, end, zeroStar, zeroInitSteps }
}
