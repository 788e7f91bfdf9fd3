import { deis } from './samplers/deis.js'
import { dpm2 } from './samplers/dpm-2.js'
import { dpmpp2m } from './samplers/dpmpp-2m.js'
import { dpmpp2mSde } from './samplers/dpmpp-2m-sde.js'
import { dpmppSde } from './samplers/dpmpp-sde.js'
import { erSde } from './samplers/er-sde.js'
import { euler } from './samplers/euler.js'
import { eulerAncestral } from './samplers/euler-ancestral.js'
import { heun } from './samplers/heun.js'
import { ipndm } from './samplers/ipndm.js'
import { lcm } from './samplers/lcm.js'
import { resMultistep } from './samplers/res-multistep.js'
import type { Sampler } from './samplers/sampler.js'
import { uniPc } from './samplers/uni-pc.js'

export type * from './samplers/sampler.js'
export { addScaled } from './samplers/combine.js'
export { euler }

/** Samplers by name, the names of ComfyUI. Add new ones here, each with a test against values from its reference. */
export const SAMPLERS = {
  euler,
  euler_ancestral: eulerAncestral(),
  heun,
  dpm_2: dpm2,
  dpmpp_2m: dpmpp2m,
  dpmpp_2m_sde: dpmpp2mSde,
  dpmpp_sde: dpmppSde,
  lcm,
  ipndm,
  deis,
  res_multistep: resMultistep,
  uni_pc: uniPc('bh1'),
  uni_pc_bh2: uniPc('bh2'),
  er_sde: erSde,
} satisfies Record<string, Sampler>

export type SamplerName = keyof typeof SAMPLERS

/** What a caller has to know about a sampler. */
export interface SamplerTraits {
  /** evaluations of the model in each step, except for the last one, which has one */
  evaluations: 1 | 2
  /** whether it adds new noise in each step, except for the last one */
  addsNoise: boolean
  /** whether it takes the noise levels of one step more, without the last one above 0 */
  dropsPenultimate: boolean
  /** whether it goes on from the state that it gave, which the loop may have changed; else it keeps another one */
  continuesFromState: boolean
}

const PLAIN: SamplerTraits = { evaluations: 1, addsNoise: false, dropsPenultimate: false, continuesFromState: true }

export const SAMPLER_TRAITS: Record<SamplerName, SamplerTraits> = {
  euler: PLAIN,
  euler_ancestral: { ...PLAIN, addsNoise: true },
  heun: { ...PLAIN, evaluations: 2 },
  dpm_2: { ...PLAIN, evaluations: 2, dropsPenultimate: true },
  dpmpp_2m: PLAIN,
  dpmpp_2m_sde: { ...PLAIN, addsNoise: true },
  dpmpp_sde: { ...PLAIN, evaluations: 2, addsNoise: true },
  lcm: { ...PLAIN, addsNoise: true },
  ipndm: PLAIN,
  deis: PLAIN,
  res_multistep: PLAIN,
  uni_pc: { ...PLAIN, dropsPenultimate: true, continuesFromState: false },
  uni_pc_bh2: { ...PLAIN, dropsPenultimate: true, continuesFromState: false },
  er_sde: { ...PLAIN, addsNoise: true },
}

/** Returns how often a run of so many steps to noise level 0 evaluates the model. */
export function evaluationsIn(sampler: SamplerName, steps: number): number {
  return (steps - 1) * SAMPLER_TRAITS[sampler].evaluations + 1
}

/**
 * Returns the noise levels that a sampler takes: those of the schedule, for some samplers those of one step more without
 * the last one above 0.
 *
 * Source: Comfy-Org/ComfyUI `comfy/samplers.py` (`DISCARD_PENULTIMATE_SIGMA_SAMPLERS`).
 *
 * @param sigmasOf the schedule: from a number of steps to noise levels
 */
export function samplerSigmas(sampler: SamplerName, sigmasOf: (steps: number) => number[]): typeof sigmasOf {
  if (!SAMPLER_TRAITS[sampler].dropsPenultimate) return sigmasOf
  return (steps) => sigmasOf(steps + 1).toSpliced(-2, 1)
}
