import { SAMPLERS, type SamplerName } from '../sampling/samplers.js'
import { SCHEDULERS, type SchedulerName } from '../sampling/schedule.js'

/**
 * The labels of samplers in A1111 and Forge. Source: AUTOMATIC1111/stable-diffusion-webui
 * `modules/sd_samplers_kdiffusion.py`, `sd_samplers_timesteps.py`, `sd_samplers_lcm.py`.
 */
const SAMPLER_LABELS: Record<SamplerName, string> = {
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

/** The labels of schedulers. 'Automatic' is the default. Source: the same, `modules/sd_schedulers.py`. */
const SCHEDULER_LABELS: Record<SchedulerName, string> = {
  official: 'Automatic',
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

/** For `/sdapi/v1/samplers`. */
export const samplerItems = (Object.keys(SAMPLERS) as SamplerName[]).map((name) => ({
  name: SAMPLER_LABELS[name],
  aliases: [name],
  options: {},
}))

/** For `/sdapi/v1/schedulers`. */
export const schedulerItems = (Object.keys(SCHEDULERS) as SchedulerName[]).map((name) => ({
  ...(name === 'official' ? { name: 'automatic', aliases: [name] } : { name, aliases: null }),
  label: SCHEDULER_LABELS[name],
  default_rho: -1,
  need_inner_model: false,
}))

/** 'DPM++ 2M', 'dpmpp_2m' and stable-diffusion.cpp's 'dpm++2m' are one name, as are 'Euler a' and 'k_euler_a'. */
function keyOf(label: string): string {
  return label
    .toLowerCase()
    .replace(/^k_/, '')
    .replaceAll('++', 'pp')
    .replace(/[^a-z0-9]/g, '')
}

function byKey<Name extends string>(labels: Record<Name, string>): Map<string, Name> {
  return new Map(
    (Object.entries(labels) as [Name, string][]).flatMap(([name, label]) => [
      [keyOf(name), name],
      [keyOf(label), name],
    ]),
  )
}

const samplers = byKey(SAMPLER_LABELS)
const schedulers = byKey(SCHEDULER_LABELS)

export interface ChosenSampler {
  sampler?: SamplerName
  scheduler?: SchedulerName
  /** about names that do not exist here, for which the defaults are taken */
  notes: string[]
}

/**
 * Finds sampler and scheduler by A1111's labels or ComfyUI's names. Until A1111 1.9 the scheduler was part of the sampler:
 * 'DPM++ 2M Karras'.
 */
export function chooseSampler(sampler: string | undefined, scheduler: string | undefined): ChosenSampler {
  const notes: string[] = []
  const wanted = keyOf(sampler ?? '')
  const suffix = samplers.has(wanted) ? undefined : [...schedulers.keys()].find((key) => wanted.endsWith(key))
  const found = samplers.get(suffix ? wanted.slice(0, -suffix.length) : wanted)
  if (wanted && !found) notes.push(`there is no sampler ${sampler}: euler is taken`)
  const own = keyOf(scheduler ?? '')
  const given = schedulers.get(own)
  if (own && !given) notes.push(`there is no scheduler ${scheduler}: the default is taken`)
  const chosen = given && given !== 'official' ? given : found && suffix ? schedulers.get(suffix) : undefined
  return { ...(found ? { sampler: found } : {}), ...(chosen ? { scheduler: chosen } : {}), notes }
}

export function samplerLabel(name: SamplerName = 'euler'): string {
  return SAMPLER_LABELS[name]
}
