import { SAMPLERS, type SamplerName } from './samplers.js'
import { SCHEDULERS, type SchedulerName } from './schedule.js'

/**
 * The labels of samplers in A1111 and Forge. Source: AUTOMATIC1111/stable-diffusion-webui
 * `modules/sd_samplers_kdiffusion.py`, `sd_samplers_timesteps.py`, `sd_samplers_lcm.py`.
 */
export const SAMPLER_LABELS: Record<SamplerName, string> = {
  euler: 'Euler',
  euler_ancestral: 'Euler a',
  heun: 'Heun',
  dpm_2: 'DPM2',
  dpmpp_2m: 'DPM++ 2M',
  dpmpp_2m_sde: 'DPM++ 2M SDE',
  dpmpp_sde: 'DPM++ SDE',
  lcm: 'LCM',
  ipndm: 'IPNDM',
  deis: 'DEIS',
  res_multistep: 'Res Multistep',
  uni_pc: 'UniPC',
  uni_pc_bh2: 'UniPC BH2',
  er_sde: 'ER SDE',
}

/** The labels of schedulers. Source: the same, `modules/sd_schedulers.py`. */
export const SCHEDULER_LABELS: Record<SchedulerName, string> = {
  official: 'Official',
  diffusers: 'Diffusers',
  linear: 'Linear',
  simple: 'Simple',
  normal: 'Normal',
  sgm_uniform: 'SGM Uniform',
  beta: 'Beta',
  karras: 'Karras',
  exponential: 'Exponential',
  ddim_uniform: 'DDIM',
  linear_quadratic: 'Linear Quadratic',
  kl_optimal: 'KL Optimal',
  'diffusers-karras': 'Diffusers Karras',
  'diffusers-exponential': 'Diffusers Exponential',
  'diffusers-beta': 'Diffusers Beta',
}

/** 'DPM++ 2M', 'dpmpp_2m' and stable-diffusion.cpp's 'dpm++2m' are one name, as are 'Euler a' and 'k_euler_a'. */
export function labelKey(label: string): string {
  return label
    .toLowerCase()
    .replace(/^k_/, '')
    .replaceAll('++', 'pp')
    .replace(/[^a-z0-9]/g, '')
}

function byKey<Name extends string>(names: Name[], labels: Record<Name, string>): ReadonlyMap<string, Name> {
  return new Map(
    names.flatMap((name) => [
      [labelKey(name), name],
      [labelKey(labels[name]), name],
    ]),
  )
}

/** By the keys of their names and labels. */
export const SAMPLERS_BY_KEY = byKey(Object.keys(SAMPLERS) as SamplerName[], SAMPLER_LABELS)
export const SCHEDULERS_BY_KEY = byKey(Object.keys(SCHEDULERS) as SchedulerName[], SCHEDULER_LABELS)
