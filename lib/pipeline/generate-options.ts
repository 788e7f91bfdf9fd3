import { randomInt } from 'node:crypto'
import { FluxError } from '../errors.js'
import { checkEncodeOptions, type EncodeOptions } from '../images/encode.js'
import { checkLoras, type LoraOptions } from '../networks/lora/assignment.js'
import type { Family, ImageRequest, Variant } from '../families/family.js'
import type { LatentFormat } from '../families/latent-format.js'
import { inWords, isWithin, RANGES, requireInRange } from '../options/ranges.js'
import { badOption, requireOneOf, requireOptions, requireSignal, requireWhole } from '../options/checks.js'
import { snapshot } from '../options/snapshot.js'
import type { NoiseVariant } from '../sampling/noise.js'
import { SAMPLER_TRAITS, SAMPLERS, samplerSigmas, type SamplerName } from '../sampling/samplers.js'
import { customSigmas, SCHEDULERS, SHIFTS, type SchedulerName, type Shift } from '../sampling/schedule.js'
import { guidancePhase, type GuidanceOptions } from '../sampling/guidance.js'
import { sigmasAtStrength, type StrengthRule } from '../sampling/strength.js'
import { parsePromptWeights } from '../tokenizers/prompt-weights.js'
import { MAX_TEXT_LENGTH } from '../tokenizers/text.js'
import { completeHires, type HiresOptions, type HiresSettings } from './hires-options.js'
import { completeImages, IMAGE_OPTIONS, type ImageOptions, type ImageSettings } from './image-options.js'

export interface GenerateOptions extends ImageOptions, Pick<EncodeOptions, 'format' | 'quality' | 'compression'> {
  prompt: string
  /**
   * scale of classifier-free guidance, 1 to 100, or its options: every step evaluates the model twice. @default 1, none
   */
  trueCfg?: number | TrueCfgOptions
  /** what the image should not show; needs `trueCfg` above 1 */
  negativePrompt?: string
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
  /** number of images, 1 to 64, with the seeds seed, seed + 1, … @default 1 */
  count?: number
  /** noise between those of two seeds, see {@link VariationOptions}. @default that of `seed` */
  variation?: VariationOptions
  /** draws small, enlarges and refines, see {@link HiresOptions}. `width` and `height` are those of the first pass */
  hires?: HiresOptions
  /** @default 'euler' */
  sampler?: SamplerName
  /** @default 'official' */
  scheduler?: SchedulerName
  /** custom noise levels, decreasing from at most 1; replaces `steps`, `scheduler` and `shift` */
  sigmas?: number[]
  /**
   * whether larger images stay longer at high noise levels; 'comfyui' shifts every size as 1024 x 1024, and models
   * without guidance not at all. @default on for models with guidance, as in the official code
   */
  shift?: Shift
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
   * LoRAs that are applied together, next to the transformer's weights; changing them takes milliseconds. A path
   * may be `hf:owner/name:file`, which is downloaded once. @default none
   */
  loras?: readonly LoraOptions[]
  /** what each step's event shows, see {@link PreviewOptions}; `generate()` rejects it. @default none */
  preview?: PreviewOptions
  /** called with every warning of each call, see `WarningEvent`; an error thrown here ends the call */
  onWarning?: (message: string) => void
  signal?: AbortSignal
}

export interface TrueCfgOptions extends Omit<GuidanceOptions, 'sigmas'> {}

/**
 * Noise on the way from that of `seed` to that of a second seed, see `slerp`, in the start and in what samplers add. With
 * `count`, the second seed counts up and the first stays, as in A1111.
 */
export interface VariationOptions {
  /** the second seed, 0 to 2^53 - 1 */
  seed: number
  /** 0 (the image of `seed`) to 1 (that of the second seed) */
  strength: number
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
  /** undefined for a request without images */
  images: ImageSettings | undefined
  negativePrompt: string
  /** undefined for no guidance */
  trueCfg: GuidanceOptions | undefined
  /** as requested; a strength may leave fewer */
  steps: number
  sigmas: number[]
  shift: Shift
  convention: StrengthRule
  seed: number
  count: number
  /** undefined if the strength is 0 */
  variation: VariationOptions | undefined
  /** undefined for one pass */
  hires: (HiresSettings & Pick<Settings, 'trueCfg'>) | undefined
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
  'count',
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
  'negativePrompt',
  'trueCfg',
  'variation',
  'hires',
  ...IMAGE_OPTIONS,
] as const satisfies readonly (keyof GenerateOptions)[]

const MAX_STEPS = RANGES.steps.most
export const MAX_COUNT = 64

/** The options as they are at the call, with inherited ones. What is changed later has no effect. */
export function optionsAtCall<T extends Partial<GenerateOptions>>(options: T): T {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) return options
  const given = KNOWN.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]] as const]))
  return snapshot({ ...options, ...Object.fromEntries(given) })
}

/**
 * Checks the options of one image and fills in the defaults.
 *
 * @throws {FluxError} FLUX_BAD_OPTION with the option, its value and the accepted values
 */
export function completeOptions(options: GenerateOptions, family: Pick<Family, 'sigmas'>, variant: Variant): Settings {
  const { defaults, latent } = variant
  requireOptions('the options', options, KNOWN)
  const {
    prompt,
    negativePrompt = '',
    trueCfg = 1,
    width = defaults.width,
    height = defaults.height,
    steps = defaults.steps,
    guidance = defaults.guidance,
    seed = randomInt(2 ** 32),
    count = 1,
    variation,
    hires,
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
  const guidedBy = requireNegative(negativePrompt, trueCfg)
  requireWithin('width', width, latent.sizeMultiple)
  requireWithin('height', height, latent.sizeMultiple)
  requireWithin('steps', steps)
  requireGuidance(guidance, defaults.guidance !== undefined)
  requireWhole('count', count, 1, MAX_COUNT)
  requireWhole('seed', seed, 0, Number.MAX_SAFE_INTEGER - count + 1)
  if (variation !== undefined) requireVariation(variation, count)
  requireOneOf('sampler', sampler, Object.keys(SAMPLERS))
  requireOneOf('scheduler', scheduler, Object.keys(SCHEDULERS))
  if (!SHIFTS.includes(shift)) throw badOption('shift', shift, "true, false or 'comfyui'")
  requireOneOf('noise', noise, ['float32', 'bfloat16'])
  requireWithin('maxSequenceLength', maxSequenceLength)
  if (typeof promptWeights !== 'boolean') throw badOption('promptWeights', promptWeights, 'true or false')
  if (promptWeights) parsePromptWeights(prompt)
  requireWithin('stepCache', stepCache)
  if (stepCache > 0 && SAMPLER_TRAITS[sampler].addsNoise) {
    const reason = `sampler '${sampler}' adds noise in each step, which cannot be extrapolated`
    throw new FluxError('FLUX_BAD_OPTION', `stepCache is ${stepCache}, but ${reason}: leave it out, or take 'euler'`)
  }
  checkLoras(loras)
  if (onWarning !== undefined && typeof onWarning !== 'function') throw badOption('onWarning', onWarning, 'a function')
  requireSignal(signal)
  const encode: EncodeOptions = {
    ...(format === undefined ? {} : { format }),
    ...(quality === undefined ? {} : { quality }),
    ...(compression === undefined ? {} : { compression }),
  }
  checkEncodeOptions(encode)
  const request = { scheduler, shift: shift === 'comfyui' && !defaults.shift ? false : shift }
  const sigmasAt = (size: { width: number; height: number }) =>
    samplerSigmas(sampler, (steps) => family.sigmas({ ...size, ...request, steps }))
  const sigmasOf = sigmasAt({ width, height })
  const images = completeImages(options, variant)
  if (sigmas !== undefined && options.strength !== undefined)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      'strength is given next to sigmas, whose first value says how much noise the image gets: give one of them',
    )
  const levels =
    sigmas !== undefined
      ? ownSigmas(sigmas)
      : images?.image === undefined
        ? sigmasOf(steps)
        : sigmasAtStrength(sigmasOf, steps, images.strength, images.convention)
  if (hires !== undefined && options.image !== undefined)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      'hires is given next to image, but its first pass draws from noise: give one',
    )
  const { convention = 'diffusers' } = options
  // images determine the size later, and the options are completed again
  const isSized = images === undefined || options.width !== undefined || options.height !== undefined
  const size = isSized ? { width, height } : { width: RANGES.width.least, height: RANGES.height.least }
  const first = { ...size, steps: levels.length - 1, convention, unit: latent.sizeMultiple, sigmasOf: sigmasAt }
  const second = hires === undefined ? undefined : completeHires(hires, first)
  const guidedAt = guidedBy && { ...guidedBy, sigmas: levels }
  if (guidedAt) guidancePhase(guidedAt, 'trueCfg.') // checks the options
  return {
    prompt,
    negativePrompt,
    trueCfg: guidedAt,
    images,
    width,
    height,
    steps: sigmas === undefined ? steps : levels.length - 1,
    sigmas: levels,
    shift,
    convention,
    guidance,
    seed,
    count,
    variation: variation?.strength ? variation : undefined,
    hires: second && { ...second, trueCfg: guidedBy && { ...guidedBy, sigmas: second.sigmas } },
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

function requireNegative(negativePrompt: string, trueCfg: number | TrueCfgOptions): TrueCfgOptions | undefined {
  const options = typeof trueCfg === 'number' ? { scale: trueCfg } : trueCfg
  requireOptions('trueCfg', options, ['scale', 'start', 'end', 'zeroStar', 'zeroInitSteps'])
  requireInRange(typeof trueCfg === 'number' ? 'trueCfg' : 'trueCfg.scale', options.scale, RANGES.trueCfg)
  if (typeof negativePrompt !== 'string' || negativePrompt.length > MAX_TEXT_LENGTH)
    throw badOption('negativePrompt', negativePrompt, `a string of at most ${MAX_TEXT_LENGTH} characters`)
  if (options.scale > 1) return options
  guidancePhase({ ...options, sigmas: [] }, 'trueCfg.') // checks the others
  for (const [name, usual] of Object.entries({ start: 0, end: 1, zeroStar: undefined, zeroInitSteps: 0 } as const)) {
    const value = options[name as keyof TrueCfgOptions]
    if (value !== undefined && value !== usual)
      throw badOption(`trueCfg.${name}`, value, 'a trueCfg.scale above 1 as well, which it acts on, or leave it out')
  }
  if (negativePrompt === '') return undefined
  const remedy = 'give trueCfg above 1, such as 3.5, which takes twice as long, or leave negativePrompt out'
  throw new FluxError('FLUX_BAD_OPTION', `negativePrompt has no effect while trueCfg is 1; ${remedy}`)
}

function requireVariation(variation: VariationOptions, count: number): void {
  requireOptions('variation', variation, ['seed', 'strength'])
  requireWhole('variation.seed', variation.seed, 0, Number.MAX_SAFE_INTEGER - count + 1)
  requireInRange('variation.strength', variation.strength, RANGES.strength)
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
