import { betaQuantile } from './beta-quantile.js'
import { linspace } from './linspace.js'
import { exponentialSpacing, karrasSpacing } from './spacings.js'
import { timeShift } from './time-shift.js'

// Source: Comfy-Org/ComfyUI `comfy/samplers.py` (`SCHEDULER_HANDLERS`), `comfy/k_diffusion/sampling.py`
// (`get_sigmas_karras`, `get_sigmas_exponential`), `comfy/model_sampling.py`. Each function takes steps and mu, and
// returns steps + 1 levels from 1 to 0.

/**
 * ComfyUI's table of noise levels: entry i is the shifted (i + 1) / size. It has 10,000 entries (`ModelSamplingFlux`), or
 * 1000 without a shift (`ModelSamplingDiscreteFlow`, which schnell has).
 */
function table(mu: number): { size: number; entry: (i: number) => number; sigma: (t: number) => number } {
  const size = mu === 0 ? 1000 : 10_000
  const sigma = (t: number) => timeShift(mu, 1, t)
  return { size, entry: (i) => sigma((i + 1) / size), sigma }
}

/** entries at equal distances, from the last one */
export function simple(steps: number, mu: number): number[] {
  const { size, entry } = table(mu)
  return [...Array.from({ length: steps }, (_, i) => entry(size - 1 - Math.trunc(i * (size / steps)))), 0]
}

/** equal intervals from 1 to the lowest level, shifted; that level is thus shifted twice, as in the source */
export function normal(steps: number, mu: number): number[] {
  const { entry, sigma } = table(mu)
  return [...linspace(1, entry(0), steps).map(sigma), 0]
}

/** the same with one level more, without the last one */
export function sgmUniform(steps: number, mu: number): number[] {
  const { entry, sigma } = table(mu)
  return [
    ...linspace(1, entry(0), steps + 1)
      .slice(0, -1)
      .map(sigma),
    0,
  ]
}

/**
 * Entries at quantiles of Beta(0.6, 0.6), rounded to whole ones (Lee et al., arXiv:2407.12173). Where that would make
 * two levels equal, ComfyUI takes one step less; here all levels are between entries then.
 */
export function beta(steps: number, mu: number): number[] {
  const { size, entry } = table(mu)
  const exact = Array.from({ length: steps }, (_, i) => betaQuantile(1 - i / steps, 0.6) * (size - 1))
  const rounded = exact.map(Math.round)
  return [...(new Set(rounded).size === steps ? rounded : exact).map(entry), 0]
}

/** Karras' spacing from 1 to the lowest level; the shift acts on that one alone */
export function karras(steps: number, mu: number): number[] {
  return [...karrasSpacing(1, table(mu).entry(0), steps), 0]
}

/** exponential spacing from 1 to the lowest level; the shift acts on that one alone */
export function exponential(steps: number, mu: number): number[] {
  return [...exponentialSpacing(1, table(mu).entry(0), steps), 0]
}

/**
 * Every n-th entry from the second one, for the n that fits. ComfyUI starts at the highest of these, below pure noise,
 * and takes a step more where n leaves a rest. Here the highest is 1, and the number of steps is kept.
 */
export function ddimUniform(steps: number, mu: number): number[] {
  const { size, entry } = table(mu)
  const distance = Math.max(1, Math.trunc(size / steps))
  const levels = Array.from({ length: steps }, (_, i) => entry(1 + i * distance)).reverse()
  return [1, ...levels.slice(1), 0]
}

/**
 * Half of the steps lead down to 0.975 in equal intervals, the others further in a parabola; never shifted.
 *
 * Source: also genmoai/models `src/mochi_preview/infer.py` (`linear_quadratic_schedule`).
 */
export function linearQuadratic(steps: number): number[] {
  const threshold = 0.025
  const linear = Math.trunc(steps / 2)
  if (linear === 0) return [1, 0]
  const quadratic = steps - linear
  const slope = threshold / linear
  const curve = (linear - threshold * steps) / quadratic ** 2
  const levels = Array.from({ length: steps }, (_, i) =>
    i < linear ? slope * i : (curve / linear) * (i ** 2 + linear ** 2) + (slope - 2 * curve) * i,
  )
  return [...levels.map((level) => 1 - level), 0]
}

/**
 * Equal intervals in the arc tangent (Sabour et al., arXiv:2404.14507, equation 18); the shift acts on the lowest level
 * alone. ComfyUI has no number for a single step, which here starts at 1.
 */
export function klOptimal(steps: number, mu: number): number[] {
  const angles = linspace(Math.atan(1), Math.atan(table(mu).entry(0)), steps)
  return [1, ...angles.slice(1).map(Math.tan), 0]
}
