import { defined } from '../options/defined.js'
import { isWithin, RANGES } from '../options/ranges.js'
import { SAMPLERS, type SamplerName } from '../sampling/samplers.js'
import { SCHEDULERS, type SchedulerName } from '../sampling/schedule.js'

/** Options for `generate`, as far as an image has them. */
export interface RestoredOptions {
  prompt?: string
  negativePrompt?: string
  steps?: number
  sampler?: SamplerName
  scheduler?: SchedulerName
  guidance?: number
  trueCfg?: number
  seed?: number
  width?: number
  height?: number
  variation?: { seed: number; strength: number }
  hires?: {
    scale?: number
    width?: number
    height?: number
    strength?: number
    steps?: number
    upscale?: 'latent' | 'image'
  }
}

/** options that one text gives */
type Plain = Exclude<keyof RestoredOptions, 'variation' | 'hires'>

/** What a file says, before it is checked. */
export interface FoundParameters extends Record<Plain, string | undefined> {
  loras: { name: string; scale: number }[]
  /** what has no option here, by the name in the file */
  unmapped: (readonly [name: string, value: string | undefined])[]
}

/** Turns texts into options; what is not valid here is unmapped. */
export function restoreOptions(found: FoundParameters): { options: RestoredOptions; unmapped: Record<string, string> } {
  const unmapped = new Map(found.unmapped.filter((entry): entry is [string, string] => entry[1] !== undefined))
  const options: RestoredOptions = {}
  /** takes an option over, or notes its text */
  const restore = <Name extends Plain>(
    name: Name,
    convert: (text: string) => RestoredOptions[Name] | undefined,
  ): void => {
    const text = found[name]
    if (text === undefined) return
    const value = convert(text)
    if (value === undefined) unmapped.set(name, text)
    else options[name] = value
  }
  restore('prompt', (text) => text)
  for (const name of ['steps', 'guidance', 'width', 'height'] as const) restore(name, within(name))
  restore('seed', readSeed)
  restore('sampler', readSampler)
  restore('scheduler', readScheduler)
  const cfg = Number(found.trueCfg ?? 1)
  if (cfg !== 1) restore('trueCfg', () => (isWithin(cfg, RANGES.guidance) ? cfg : undefined))
  // without true CFG a negative prompt had no effect
  if (found.negativePrompt) restore('negativePrompt', (text) => ((options.trueCfg ?? 1) > 1 ? text : undefined))
  /** takes a field of A1111's form, unless its value is not valid here */
  const take = <T>(field: string, convert: (text: string) => T | undefined): T | undefined => {
    const text = unmapped.get(field)
    const value = text === undefined ? undefined : convert(text)
    if (value !== undefined) unmapped.delete(field)
    return value
  }
  const seed = take('Variation seed', readSeed)
  const strength = take('Variation seed strength', within('strength'))
  if (seed !== undefined && strength !== undefined) options.variation = { seed, strength }
  const hires = {
    scale: take('Hires upscale', within('hiresScale')),
    ...take('Hires resize', readSize),
    steps: take('Hires steps', within('steps')),
    upscale: take('Hires upscaler', readUpscaler),
  }
  if (Object.values(hires).some((value) => value !== undefined))
    options.hires = defined({ ...hires, strength: take('Denoising strength', within('strength')) })
  return { options, unmapped: Object.fromEntries(unmapped) }
}

const within = (name: keyof typeof RANGES) => (text: string) =>
  isWithin(Number(text), RANGES[name]) ? Number(text) : undefined

function readSize(text: string): { width: number; height: number } | undefined {
  const [width, height] = text.split('x').map(Number)
  return isWithin(width, RANGES.width) && isWithin(height, RANGES.height) ? { width, height } : undefined
}

function readUpscaler(label: string): 'latent' | 'image' | undefined {
  return label === 'Latent' ? 'latent' : label === 'Lanczos' ? 'image' : undefined
}

/**
 * Seeds have up to 64 bits elsewhere. Only the low 32 choose the noise, here as in torch (see `gaussianNoise`), so that
 * those stay of a seed that is no exact number.
 */
function readSeed(text: string): number | undefined {
  if (!/^\d{1,20}$/.test(text)) return undefined
  const seed = Number(text)
  return Number.isSafeInteger(seed) ? seed : Number(BigInt.asUintN(32, BigInt(text)))
}

/** A1111's names that do not follow from ComfyUI's */
const ALIASES: Record<string, string> = {
  euler_a: 'euler_ancestral',
  dpm2: 'dpm_2',
  dpm2_a: 'dpm_2_ancestral',
  dpmpp_2s_a: 'dpmpp_2s_ancestral',
  unipc: 'uni_pc',
  ddim: 'ddim_uniform',
}

/** 'DPM++ 2M SDE' to 'dpmpp_2m_sde' */
function canonical(label: string): string {
  const name = label.trim().toLowerCase().replaceAll('++', 'pp').replaceAll(' ', '_')
  return Object.hasOwn(ALIASES, name) ? ALIASES[name]! : name
}

function readSampler(label: string): SamplerName | undefined {
  const name = canonical(label)
  return Object.hasOwn(SAMPLERS, name) ? (name as SamplerName) : undefined
}

function readScheduler(label: string): SchedulerName | undefined {
  const name = canonical(label)
  return Object.hasOwn(SCHEDULERS, name) ? (name as SchedulerName) : undefined
}
