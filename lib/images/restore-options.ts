import { defined } from '../options/defined.js'
import { isWithin, RANGES } from '../options/ranges.js'
import type { ZeroStar } from '../sampling/guidance.js'
import type { NoiseVariant } from '../sampling/noise.js'
import { labelKey, SAMPLERS_BY_KEY, SCHEDULERS_BY_KEY } from '../sampling/labels.js'
import type { SamplerName } from '../sampling/samplers.js'
import type { SchedulerName, Shift } from '../sampling/schedule.js'
import type { StrengthRule } from '../sampling/strength.js'

/** Options for `generate`, as far as an image has them. */
export interface RestoredOptions {
  prompt?: string
  negativePrompt?: string
  steps?: number
  sampler?: SamplerName
  scheduler?: SchedulerName
  guidance?: number
  trueCfg?: number | { scale: number; start?: number; end?: number; zeroStar?: ZeroStar; zeroInitSteps?: number }
  seed?: number
  width?: number
  height?: number
  /** of the image that it was made from, which has to be given as well */
  strength?: number
  convention?: StrengthRule
  shift?: Shift
  noise?: NoiseVariant
  maxSequenceLength?: number
  promptWeights?: boolean
  stepCache?: number
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

/** options that every program has */
type Common =
  | ('prompt' | 'negativePrompt' | 'steps' | 'sampler' | 'scheduler')
  | ('guidance' | 'trueCfg' | 'seed' | 'width' | 'height')

/** What a file says, before it is checked. */
export interface FoundParameters extends Record<Common, string | undefined> {
  loras: { name: string; scale: number }[]
  /** what has no option here, by the name in the file */
  unmapped: (readonly [name: string, value: string | undefined])[]
}

/** Turns texts into options; what is not valid here is unmapped. */
export function restoreOptions(found: FoundParameters): { options: RestoredOptions; unmapped: Record<string, string> } {
  const unmapped = new Map(found.unmapped.filter((entry): entry is [string, string] => entry[1] !== undefined))
  const options: RestoredOptions = {}
  /** takes an option over, or notes its text */
  const restore = <Name extends Common>(
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
  for (const name of ['steps', 'guidance'] as const) restore(name, within(name))
  // one side alone would be another size, and an image that was drawn at its own size has that again without both
  const isSize = within('width')(found.width ?? '') !== undefined && within('height')(found.height ?? '') !== undefined
  for (const name of ['width', 'height'] as const) restore(name, (text) => (isSize ? Number(text) : undefined))
  restore('seed', readSeed)
  restore('sampler', readSampler)
  restore('scheduler', readScheduler)
  const cfg = Number(found.trueCfg ?? 1)
  if (cfg !== 1) restore('trueCfg', () => (isWithin(cfg, RANGES.trueCfg) ? cfg : undefined))
  // without true CFG a negative prompt had no effect
  if (found.negativePrompt) restore('negativePrompt', (text) => (Number(options.trueCfg ?? 1) > 1 ? text : undefined))
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
  const hires = defined({
    scale: take('Hires upscale', within('hiresScale')),
    ...take('Hires resize', readSize),
    steps: take('Hires steps', within('steps')),
    upscale: take('Hires upscaler', oneOf({ Latent: 'latent', Lanczos: 'image' })),
  })
  // a network, which has to be given as well: its name stays among what is unmapped
  const upscaler = unmapped.get('Hires upscaler')
  if (upscaler !== undefined && !/^(Latent|None|Nearest)\b/.test(upscaler)) hires.upscale = 'image'
  const denoising = take('Denoising strength', (text) => within('strength')(text) || undefined)
  if (Object.keys(hires).length > 0) options.hires = defined({ ...hires, strength: denoising })
  const guidance = defined({
    start: take('CFG start', within('strength')),
    end: take('CFG end', within('strength')),
    zeroStar: take('CFG zero star', oneOf({ diffusers: 'diffusers', comfyui: 'comfyui' })),
    zeroInitSteps: take('CFG zero init steps', (text) => (text === '0' ? 0 : within('steps')(text))),
  })
  if (typeof options.trueCfg === 'number' && Object.keys(guidance).length > 0)
    options.trueCfg = { scale: options.trueCfg, ...guidance }
  Object.assign(
    options,
    defined({
      strength: options.hires ? undefined : denoising,
      convention: take('Strength convention', oneOf({ comfyui: 'comfyui' })),
      shift: take('Shift', oneOf({ true: true, false: false, comfyui: 'comfyui' })),
      noise: take('Noise type', oneOf({ bfloat16: 'bfloat16' })),
      maxSequenceLength: take('Max sequence length', within('maxSequenceLength')),
      promptWeights: take('Prompt weights', oneOf({ true: true })),
      stepCache: take('Step cache', within('stepCache')),
    } satisfies { [K in keyof RestoredOptions]: RestoredOptions[K] | undefined }),
  )
  return { options, unmapped: Object.fromEntries(unmapped) }
}

const within = (name: keyof typeof RANGES) => (text: string) =>
  isWithin(Number(text), RANGES[name]) ? Number(text) : undefined

function readSize(text: string): { width: number; height: number } | undefined {
  const [width, height] = text.split('x').map(Number)
  return isWithin(width, RANGES.width) && isWithin(height, RANGES.height) ? { width, height } : undefined
}

/** @param values the value of each text */
function oneOf<const T extends string | boolean>(values: Record<string, T>): (text: string) => T | undefined {
  return (text) => (Object.hasOwn(values, text) ? values[text] : undefined)
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

function readSampler(label: string): SamplerName | undefined {
  return SAMPLERS_BY_KEY.get(labelKey(label))
}

function readScheduler(label: string): SchedulerName | undefined {
  return SCHEDULERS_BY_KEY.get(labelKey(label))
}
