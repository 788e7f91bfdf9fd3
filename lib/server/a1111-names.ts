import { labelKey, SAMPLER_LABELS, SAMPLERS_BY_KEY, SCHEDULER_LABELS, SCHEDULERS_BY_KEY } from '../sampling/labels.js'
import { SAMPLERS, type SamplerName } from '../sampling/samplers.js'
import { SCHEDULERS, type SchedulerName } from '../sampling/schedule.js'

/** A1111's name of the default */
const AUTOMATIC = 'Automatic'

/** For `/sdapi/v1/samplers`. */
export const samplerItems = (Object.keys(SAMPLERS) as SamplerName[]).map((name) => ({
  name: SAMPLER_LABELS[name],
  aliases: [name],
  options: {},
}))

/** For `/sdapi/v1/schedulers`. */
export const schedulerItems = (Object.keys(SCHEDULERS) as SchedulerName[]).map((name) => ({
  ...(name === 'official'
    ? { name: AUTOMATIC.toLowerCase(), aliases: [name], label: AUTOMATIC }
    : { name, aliases: null, label: SCHEDULER_LABELS[name] }),
  default_rho: -1,
  need_inner_model: false,
}))

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
  const wanted = labelKey(sampler ?? '')
  const suffix = SAMPLERS_BY_KEY.has(wanted)
    ? undefined
    : [...SCHEDULERS_BY_KEY.keys()].find((key) => wanted.endsWith(key))
  const found = SAMPLERS_BY_KEY.get(suffix ? wanted.slice(0, -suffix.length) : wanted)
  if (wanted && !found) notes.push(`there is no sampler ${sampler}: euler is taken`)
  const own = labelKey(scheduler ?? '')
  const given = own === labelKey(AUTOMATIC) ? 'official' : SCHEDULERS_BY_KEY.get(own)
  if (own && !given) notes.push(`there is no scheduler ${scheduler}: the default is taken`)
  const chosen = given && given !== 'official' ? given : found && suffix ? SCHEDULERS_BY_KEY.get(suffix) : undefined
  return { ...(found ? { sampler: found } : {}), ...(chosen ? { scheduler: chosen } : {}), notes }
}

export function samplerLabel(name: SamplerName = 'euler'): string {
  return SAMPLER_LABELS[name]
}
