import { FluxError } from '../errors.js'
import { badOption, requireOptions } from '../options/checks.js'

/** Returns `steps + 1` sigmas that decrease from 1 to 0; `mu` is the logarithm of the shift, 0 for none. */
export type Scheduler = (steps: number, mu: number) => number[]

/**
 * FLUX's resolution-dependent shift: exp(mu) / (exp(mu) + (1/t - 1)^sigma); 0 for t = 0. It is the identity for mu = 0,
 * sigma = 1.
 *
 * Source: black-forest-labs/flux `src/flux/sampling.py` (`time_shift`); Esser et al., arXiv:2403.03206, section 5.3.2.
 */
export function timeShift(mu: number, sigma: number, t: number): number {
  const shift = Math.exp(mu)
  return shift / (shift + (1 / t - 1) ** sigma)
}

/**
 * mu on the line through (256 image tokens, baseShift) and (4096, maxShift), not clamped. Source: as above,
 * `get_lin_function`.
 */
export function getLinearMu(sequenceLength: number, baseShift = 0.5, maxShift = 1.15): number {
  return baseShift + ((maxShift - baseShift) * (sequenceLength - 256)) / (4096 - 256)
}

/** Schedulers by name. Add new ones here, each with a test against values from its reference. */
export const SCHEDULERS = {
  /** black-forest-labs/flux `src/flux/sampling.py` (`get_schedule`): equal intervals from 1 to 0, then the shift */
  official: (steps, mu) => linearSigmas(steps).map((t) => timeShift(mu, 1, t)),
  /**
   * huggingface/diffusers `FlowMatchEulerDiscreteScheduler`: dynamic exponential shift of linspace(1, 1/steps, steps),
   * then 0
   */
  diffusers: (steps, mu) => {
    const sigmas = Array.from({ length: steps }, (_, i) => 1 + (i * (1 / steps - 1)) / Math.max(steps - 1, 1))
    return [...sigmas.map((t) => timeShift(mu, 1, t)), 0]
  },
  /** equal intervals, never shifted */
  linear: linearSigmas,
} satisfies Record<string, Scheduler>

export type SchedulerName = keyof typeof SCHEDULERS

export interface ScheduleOptions {
  /** number of denoising steps, at least 1 */
  steps: number
  /** image tokens: width / 16 * height / 16 */
  sequenceLength: number
  /** @default 'official' */
  scheduler?: SchedulerName
  /** off for FLUX.1 [schnell], on for the others. @default true */
  shift?: boolean
  /** mu at 256 image tokens. @default 0.5 */
  baseShift?: number
  /** mu at 4096 image tokens; set it to `baseShift` if mu should not depend on the size. @default 1.15 */
  maxShift?: number
}

const OPTIONS = [
  'steps',
  'sequenceLength',
  'scheduler',
  'shift',
  'baseShift',
  'maxShift',
] as const satisfies readonly (keyof ScheduleOptions)[]

/**
 * Returns the noise levels of a run: `steps + 1` sigmas, the first 1 (pure noise), the last 0 (the image). Computed in
 * float64.
 *
 * @throws FluxError FLUX_BAD_OPTION for a value out of range or an unknown scheduler
 */
export function schedule(options: ScheduleOptions): number[] {
  requireOptions('the options of schedule', options, OPTIONS)
  const { steps, sequenceLength, scheduler = 'official', shift = true, baseShift = 0.5, maxShift = 1.15 } = options
  requireCount('steps', steps)
  requireCount('sequenceLength', sequenceLength)
  for (const [name, value] of Object.entries({ baseShift, maxShift })) {
    if (!Number.isFinite(value)) throw new FluxError('FLUX_BAD_OPTION', `${name} is ${value}: give a finite number`)
  }
  if (!Object.hasOwn(SCHEDULERS, scheduler)) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `scheduler is '${scheduler}': give one of ${Object.keys(SCHEDULERS).join(', ')}`,
    )
  }
  return SCHEDULERS[scheduler](steps, shift ? getLinearMu(sequenceLength, baseShift, maxShift) : 0)
}

/**
 * Checks custom sigmas: numbers within 0 to 1, each smaller than the one before. Appends the final 0 if it is missing.
 *
 * @throws FluxError FLUX_BAD_OPTION with the first wrong value
 */
export function customSigmas(sigmas: ArrayLike<number>): number[] {
  if (typeof sigmas !== 'object' || sigmas === null)
    throw badOption('sigmas', sigmas, 'an array of numbers from 0 to 1')
  const checked = Array.from(sigmas)
  checked.forEach((sigma, i) => {
    const previous = checked[i - 1]
    if (typeof sigma !== 'number' || !(sigma >= 0 && sigma <= 1)) {
      throw new FluxError('FLUX_BAD_OPTION', `sigmas[${i}] is ${String(sigma)}: give numbers from 0 to 1`)
    }
    if (previous !== undefined && sigma >= previous) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `sigmas[${i}] is ${sigma}, after ${previous}: every value must be smaller than the one before`,
      )
    }
  })
  if (checked.at(-1) !== 0) checked.push(0)
  if (checked.length < 2)
    throw new FluxError('FLUX_BAD_OPTION', `sigmas is [${Array.from(sigmas)}]: give at least one value above 0`)
  return checked
}

function linearSigmas(steps: number): number[] {
  return Array.from({ length: steps + 1 }, (_, i) => (steps - i) / steps)
}

function requireCount(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1)
    throw new FluxError('FLUX_BAD_OPTION', `${name} is ${value}: give a whole number from 1`)
}
