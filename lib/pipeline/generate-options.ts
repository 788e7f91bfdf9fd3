import { randomInt } from 'node:crypto'
import { FluxError } from '../errors.js'
import { checkEncodeOptions, type EncodeOptions } from '../images/encode.js'
import { checkLoras, type LoraOptions } from '../networks/lora/assignment.js'
import type { Family, ImageRequest, Variant } from '../families/family.js'
import type { LatentFormat } from '../families/latent-format.js'
import { inWords, isWithin, RANGES } from '../options/ranges.js'
import { badOption, requireOneOf, requireOptions, requireSignal, requireWhole } from '../options/checks.js'
import type { NoiseVariant } from '../sampling/noise.js'
import { SAMPLERS, type SamplerName } from '../sampling/samplers.js'
import { customSigmas, SCHEDULERS, type SchedulerName } from '../sampling/schedule.js'
import { parsePromptWeights } from '../tokenizers/prompt-weights.js'
import { MAX_TEXT_LENGTH } from '../tokenizers/text.js'

export interface GenerateOptions extends Pick<EncodeOptions, 'format' | 'quality' | 'compression'> {
  prompt: string
  /** pixels, 64 to 4096, a multiple of 16. @default 1024; tiny 128 */
  width?: number
  /** same range as `width`, same default */
  height?: number
  /** 1 to 1000. @default dev 28, schnell 4, tiny 8 */
  steps?: number
  /** strength of the prompt, 0 to 100; only models with guidance (dev) accept it. @default 3.5; tiny 2 */
  guidance?: number
  /** 0 to 2^53 - 1. @default a random one, reported in the result */
  seed?: number
  /** @default 'euler' */
  sampler?: SamplerName
  /** @default 'official' */
  scheduler?: SchedulerName
  /** custom noise levels, decreasing from at most 1; replaces `steps`, `scheduler` and `shift` */
  sigmas?: number[]
  /**
   * whether larger images stay longer at high noise levels. @default on for models with guidance, as in the official
   * code
   */
  shift?: boolean
  /**
   * torch's number format for noise: 'float32' as in ComfyUI, 'bfloat16' as in the official code. @default 'float32'
   */
  noise?: NoiseVariant
  /** tokens of the prompt that T5 sees, 16 to 512. @default dev 512, schnell 256, tiny 32 */
  maxSequenceLength?: number
  /** whether `(word:1.3)`, `(word)` and `[word]` in the prompt are weights, see `parsePromptWeights`. @default false */
  promptWeights?: boolean
  /**
   * Skips evaluations of the model while its velocity changes smoothly: the relative error that an extrapolated
   * velocity may have, 0 to 1. Useful with many steps (dev); 0.05 to 0.2 is usual. @default 0, every step is evaluated
   */
  stepCache?: number
  /**
   * LoRAs that are applied together, next to the transformer's weights; changing them takes milliseconds. @default none
   */
  loras?: readonly LoraOptions[]
  /** what each step's event shows, see {@link PreviewOptions}; `generate()` rejects it. @default none */
  preview?: PreviewOptions
  /** called with every warning of each call, see `WarningEvent`; an error thrown here ends the call */
  onWarning?: (message: string) => void
  signal?: AbortSignal
}

export interface PreviewOptions {
  /** show a preview every this many steps. @default 1 */
  every?: number
  /**
   * 'linear': one pixel per latent, immediate; 'taef1': full size, almost immediate, uses the model's `previewDecoder`;
   * 'autoencoder': full size, as slow as the final decoding. @default 'linear'
   */
  method?: 'linear' | NonNullable<LatentFormat['previewDecoder']> | 'autoencoder'
}

/** All options, checked and with defaults filled in. */
export interface Settings extends ImageRequest {
  sigmas: number[]
  seed: number
  sampler: SamplerName
  scheduler: string
  noise: NoiseVariant
  stepCache: number
  loras: readonly LoraOptions[]
  preview: Required<PreviewOptions> | undefined
  encode: EncodeOptions
  onWarning: ((message: string) => void) | undefined
  signal: AbortSignal | undefined
}

const KNOWN = [
  'prompt',
  'width',
  'height',
  'steps',
  'guidance',
  'seed',
  'sampler',
  'scheduler',
  'sigmas',
  'shift',
  'noise',
  'maxSequenceLength',
  'promptWeights',
  'stepCache',
  'loras',
  'preview',
  'onWarning',
  'signal',
  'format',
  'quality',
  'compression',
] as const satisfies readonly (keyof GenerateOptions)[]

const MAX_STEPS = RANGES.steps.most

/**
 * Checks the options of one image and fills in the defaults.
 *
 * @throws {FluxError} FLUX_BAD_OPTION with the option, its value and the accepted values
 */
export function completeOptions(
  options: GenerateOptions,
  family: Pick<Family, 'sigmas'>,
  { defaults, latent }: Variant,
): Settings {
  requireOptions('the options', options, KNOWN)
  const {
    prompt,
    width = defaults.width,
    height = defaults.height,
    steps = defaults.steps,
    guidance = defaults.guidance,
    seed = randomInt(2 ** 32),
    sampler = 'euler',
    scheduler = 'official',
    sigmas,
    shift = defaults.shift,
    noise = 'float32',
    maxSequenceLength = defaults.maxSequenceLength,
    promptWeights = false,
    stepCache = 0,
    loras = [],
    preview,
    onWarning,
    signal,
    format,
    quality,
    compression,
  } = options
  if (typeof prompt !== 'string' || prompt.length > MAX_TEXT_LENGTH) {
    throw badOption('prompt', prompt, `a string of at most ${MAX_TEXT_LENGTH} characters`)
  }
  requireWithin('width', width, latent.sizeMultiple)
  requireWithin('height', height, latent.sizeMultiple)
  requireWithin('steps', steps)
  requireGuidance(guidance, defaults.guidance !== undefined)
  requireWhole('seed', seed, 0, Number.MAX_SAFE_INTEGER)
  requireOneOf('sampler', sampler, Object.keys(SAMPLERS))
  requireOneOf('scheduler', scheduler, Object.keys(SCHEDULERS))
  if (typeof shift !== 'boolean') throw badOption('shift', shift, 'true or false')
  requireOneOf('noise', noise, ['float32', 'bfloat16'])
  requireWithin('maxSequenceLength', maxSequenceLength)
  if (typeof promptWeights !== 'boolean') throw badOption('promptWeights', promptWeights, 'true or false')
  if (promptWeights) parsePromptWeights(prompt)
  requireWithin('stepCache', stepCache)
  checkLoras(loras)
  if (onWarning !== undefined && typeof onWarning !== 'function') throw badOption('onWarning', onWarning, 'a function')
  requireSignal(signal)
  const encode: EncodeOptions = {
    ...(format === undefined ? {} : { format }),
    ...(quality === undefined ? {} : { quality }),
    ...(compression === undefined ? {} : { compression }),
  }
  checkEncodeOptions(encode)
  return {
    prompt,
    width,
    height,
    sigmas: sigmas === undefined ? family.sigmas({ width, height, steps, scheduler, shift }) : ownSigmas(sigmas),
    guidance,
    seed,
    sampler,
    scheduler: sigmas === undefined ? scheduler : 'custom',
    noise,
    maxSequenceLength,
    promptWeights,
    stepCache,
    loras,
    preview: preview === undefined ? undefined : completePreview(preview, latent),
    encode,
    onWarning,
    signal,
  }
}

function completePreview(
  preview: PreviewOptions,
  { previewDecoder }: Pick<LatentFormat, 'previewDecoder'>,
): Required<PreviewOptions> {
  requireOptions('preview', preview, ['every', 'method'])
  const { every = 1, method = 'linear' } = preview
  return {
    every: requireWhole('preview.every', every, 1, MAX_STEPS),
    method: requireOneOf('preview.method', method, [
      'linear',
      ...(previewDecoder ? [previewDecoder] : []),
      'autoencoder',
    ]),
  }
}

function ownSigmas(sigmas: number[]): number[] {
  const most = MAX_STEPS + 1
  if (!Array.isArray(sigmas) || sigmas.length > most)
    throw badOption('sigmas', sigmas, `an array of at most ${most} numbers`)
  return customSigmas(sigmas)
}

function requireWithin(name: keyof typeof RANGES, value: number, unit: number = RANGES[name].unit): void {
  const range = { ...RANGES[name], unit }
  if (isWithin(value, range)) return
  const { least, most } = range
  const near =
    unit > 1 && Number.isFinite(value)
      ? `; ${Math.min(most, Math.max(least, unit * Math.round(value / unit)))} is nearest`
      : ''
  throw badOption(name, value, inWords(range) + near)
}

function requireGuidance(guidance: number | undefined, isTaken: boolean): void {
  if (guidance === undefined) return
  requireWithin('guidance', guidance)
  if (!isTaken) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `guidance is ${guidance}, but this model was made without guidance, as schnell; leave it out`,
    )
  }
}
