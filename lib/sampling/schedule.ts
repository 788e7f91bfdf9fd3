import { FluxError } from '../errors.js'
import { badOption, requireOneOf, requireOptions } from '../options/checks.js'
import {
  beta,
  ddimUniform,
  exponential,
  karras,
  klOptimal,
  linearQuadratic,
  normal,
  sgmUniform,
  simple,
} from './schedules/comfyui.js'
import { diffusersBeta, diffusersExponential, diffusersKarras, diffusersShifted } from './schedules/diffusers.js'
import { timeShift } from './schedules/time-shift.js'

export { timeShift }

/** Returns `steps + 1` sigmas that decrease from 1 to 0; `mu` is the logarithm of the shift, 0 for none. */
export type Scheduler = (steps: number, mu: number) => number[]

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
  diffusers: diffusersShifted,
  /** equal intervals, never shifted */
  linear: linearSigmas,
  simple,
  normal,
  sgm_uniform: sgmUniform,
  beta,
  karras,
  exponential,
  ddim_uniform: ddimUniform,
  linear_quadratic: linearQuadratic,
  kl_optimal: klOptimal,
  'diffusers-karras': diffusersKarras,
  'diffusers-exponential': diffusersExponential,
  'diffusers-beta': diffusersBeta,
} satisfies Record<string, Scheduler>

export type SchedulerName = keyof typeof SCHEDULERS

export const SHIFTS = [true, false, 'comfyui'] as const

export type Shift = (typeof SHIFTS)[number]

export interface ScheduleOptions {
  /** number of denoising steps, at least 1 */
  steps: number
  /** image tokens: width / 16 * height / 16 */
  sequenceLength: number
  /** @default 'official' */
  scheduler?: SchedulerName
  /**
   * off for FLUX.1 [schnell], on for the others; 'comfyui' takes `maxShift` at every size, as ComfyUI does. @default true
   */
  shift?: Shift
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
  requireOneOf('scheduler', scheduler, Object.keys(SCHEDULERS))
  if (!SHIFTS.includes(shift)) throw badOption('shift', shift, "true, false or 'comfyui'")
  const mu = shift === 'comfyui' ? maxShift : shift ? getLinearMu(sequenceLength, baseShift, maxShift) : 0
  const sigmas = SCHEDULERS[scheduler](steps, mu)
  // ComfyUI's levels come from a table of 10,000, or 1000 without shift
  if (!sigmas.every((sigma, i) => i === 0 || sigma < sigmas[i - 1]!))
    throw badOption('steps', steps, `fewer, because scheduler '${scheduler}' has less than ${steps} different levels`)
  return sigmas
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
