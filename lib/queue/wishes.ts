import type { DrawOptions } from '../pipeline/engine.js'
import type { ModelDescription, Wishes } from './queue.js'

/** A model with no more steps than this is distilled to so few, and more do not make its images better. */
const FEW_STEPS = 8

/** steps by quality, as a factor of the model's own */
const QUALITY: Record<NonNullable<Wishes['quality']>, number> = { low: 0.4, medium: 0.7, high: 1, xhigh: 1.4, max: 1.8 }

/** Adds those wishes to the options that the model has a use for. Options that are given stay. */
export function granted(
  options: DrawOptions,
  { steps, guidance, negativePrompt, quality }: Wishes,
  defaults: ModelDescription['defaults'],
): DrawOptions {
  const { trueCfg = 1 } = options
  const scale = typeof trueCfg === 'number' ? trueCfg : trueCfg.scale
  const hasManySteps = defaults.steps > FEW_STEPS
  const byQuality = quality && Math.max(1, Math.round(defaults.steps * QUALITY[quality]))
  const wished = hasManySteps ? (steps ?? byQuality) : undefined
  return {
    ...(wished === undefined ? {} : { steps: wished }),
    ...(guidance === undefined || defaults.guidance === null ? {} : { guidance }),
    ...(negativePrompt === undefined || scale <= 1 ? {} : { negativePrompt }),
    ...options,
  }
}
