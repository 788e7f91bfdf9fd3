import { betaQuantile } from './beta-quantile.js'
import { linspace } from './linspace.js'
import { exponentialSpacing, karrasSpacing } from './spacings.js'
import { timeShift } from './time-shift.js'

// Source: huggingface/diffusers `FlowMatchEulerDiscreteScheduler` (`set_timesteps`, `_convert_to_karras`,
// `_convert_to_exponential`, `_convert_to_beta`), as `FluxPipeline` calls it. Each function takes steps and mu.

const shifted = (steps: number, mu: number): number[] => linspace(1, 1 / steps, steps).map((t) => timeShift(mu, 1, t))

/** dynamic exponential shift of linspace(1, 1/steps, steps), then 0 */
export function diffusersShifted(steps: number, mu: number): number[] {
  return [...shifted(steps, mu), 0]
}

/** Karras' spacing between the first and the last shifted level, then 0 */
export function diffusersKarras(steps: number, mu: number): number[] {
  return [...karrasSpacing(1, shifted(steps, mu).at(-1)!, steps), 0]
}

/** exponential spacing between the first and the last shifted level, then 0 */
export function diffusersExponential(steps: number, mu: number): number[] {
  return [...exponentialSpacing(1, shifted(steps, mu).at(-1)!, steps), 0]
}

/** quantiles of Beta(0.6, 0.6) between the first and the last shifted level, then 0 */
export function diffusersBeta(steps: number, mu: number): number[] {
  const least = shifted(steps, mu).at(-1)!
  return [...linspace(1, 0, steps).map((p) => least + betaQuantile(p, 0.6) * (1 - least)), 0]
}
