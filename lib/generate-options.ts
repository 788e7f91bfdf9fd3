import { randomInt } from 'node:crypto'
import { FluxError } from './errors.js'
import type { EncodeOptions } from './image.js'
import type { FluxConfig } from './models/layouts/flux.js'
import type { NoiseVariant } from './sampling/noise.js'
import { SAMPLERS, type SamplerName } from './sampling/samplers.js'
import { customSigmas, schedule, SCHEDULERS, type SchedulerName } from './sampling/schedule.js'
import { MAX_TEXT_LENGTH } from './tokenizers/text.js'

export interface GenerateOptions extends Pick<EncodeOptions, 'format' | 'quality' | 'compression'> {
  prompt: string
  /** pixels, 64 to 4096, a multiple of 16. @default 1024; of the tiny model 256 */
  width?: number
  /** as `width` */
  height?: number
  /** 1 to 1000. @default 28, without guidance (schnell) 4 */
  steps?: number
  /** strength of the prompt, 0 to 100; only models with guidance (dev) take it. @default 3.5 */
  guidance?: number
  /** 0 to 2^53 - 1. @default a random one, told in the result */
  seed?: number
  /** @default 'euler' */
  sampler?: SamplerName
  /** @default 'official' */
  scheduler?: SchedulerName
  /** noise levels of your own, falling from at most 1; takes the place of `steps`, `scheduler` and `shift` */
  sigmas?: number[]
  /** whether larger pictures stay longer at high noise levels. @default as the official program: with guidance */
  shift?: boolean
  /** which of torch's random numbers: 'float32' as ComfyUI starts from, 'bfloat16' as the official program. @default 'float32' */
  noise?: NoiseVariant
  /** tokens of the prompt that T5 sees, 16 to 512. @default 512, without guidance (schnell) 256 */
  maxSequenceLength?: number
  /** what each step's event shows, see {@link PreviewOptions}; only `stream()` takes it. @default none */
  preview?: PreviewOptions
  signal?: AbortSignal
}

export interface PreviewOptions {
  /** show every so many steps. @default 1 */
  every?: number
  /** 'linear': one pixel per latent, at once; 'autoencoder': full size, as slow as the last decoding. @default 'linear' */
  method?: 'linear' | 'autoencoder'
}

/** All options, checked and complete. */
export interface Settings {
  prompt: string
  width: number
  height: number
  sigmas: number[]
  guidance: number | undefined
  seed: number
  sampler: SamplerName
  scheduler: string
  noise: NoiseVariant
  maxSequenceLength: number
  preview: Required<PreviewOptions> | undefined
  encode: EncodeOptions
  signal: AbortSignal | undefined
}

const KNOWN = [
  'prompt', 'width', 'height', 'steps', 'guidance', 'seed', 'sampler', 'scheduler', 'sigmas', 'shift', 'noise', 'maxSequenceLength', 'preview',
  'signal', 'format', 'quality', 'compression',
] as const satisfies readonly (keyof GenerateOptions)[]

/**
 * Checks the options of one picture and fills in what is not given.
 *
 * @param defaultSize side of the picture where none is given
 * @throws {FluxError} FLUX_BAD_OPTION naming the option, its value, and what is possible
 */
export function completeOptions(options: GenerateOptions, { guidanceEmbed }: Pick<FluxConfig, 'guidanceEmbed'>, defaultSize: number): Settings {
  if (typeof options !== 'object' || options === null) throw bad('the options', options, 'an object such as { prompt: "a red fox" }')
  for (const name of Object.keys(options)) {
    if (!(KNOWN as readonly string[]).includes(name)) throw new FluxError('FLUX_BAD_OPTION', `there is no option ${name}; there are ${KNOWN.join(', ')}`)
  }
  const { prompt, sampler = 'euler', scheduler = 'official', noise = 'float32', shift = guidanceEmbed, signal } = options
  if (typeof prompt !== 'string' || prompt.length > MAX_TEXT_LENGTH) throw bad('prompt', prompt, `a string of at most ${MAX_TEXT_LENGTH} characters`)
  if (!Object.hasOwn(SAMPLERS, sampler)) throw bad('sampler', sampler, `one of ${Object.keys(SAMPLERS).join(', ')}`)
  if (!Object.hasOwn(SCHEDULERS, scheduler)) throw bad('scheduler', scheduler, `one of ${Object.keys(SCHEDULERS).join(', ')}`)
  if (noise !== 'float32' && noise !== 'bfloat16') throw bad('noise', noise, "'float32' or 'bfloat16'")
  if (typeof shift !== 'boolean') throw bad('shift', shift, 'true or false')
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw bad('signal', signal, 'an AbortSignal')
  if (options.guidance !== undefined && !guidanceEmbed) {
    throw new FluxError('FLUX_BAD_OPTION', `guidance is ${options.guidance}, but this model (schnell) was made without guidance; leave it out`)
  }
  const width = side('width', options.width ?? defaultSize)
  const height = side('height', options.height ?? defaultSize)
  const steps = whole('steps', options.steps ?? (guidanceEmbed ? 28 : 4), 1, 1000)
  const sigmas = options.sigmas
    ? customSigmas(options.sigmas)
    : schedule({ steps, sequenceLength: (width / 16) * (height / 16), scheduler, shift })
  return {
    prompt,
    width,
    height,
    sigmas,
    guidance: guidanceEmbed ? number('guidance', options.guidance ?? 3.5, 0, 100) : undefined,
    seed: whole('seed', options.seed ?? randomInt(2 ** 32), 0, Number.MAX_SAFE_INTEGER),
    sampler,
    scheduler: options.sigmas ? 'custom' : scheduler,
    noise,
    maxSequenceLength: whole('maxSequenceLength', options.maxSequenceLength ?? (guidanceEmbed ? 512 : 256), 16, 512),
    preview: options.preview && completePreview(options.preview),
    encode: {
      ...(options.format === undefined ? {} : { format: options.format }),
      ...(options.quality === undefined ? {} : { quality: options.quality }),
      ...(options.compression === undefined ? {} : { compression: options.compression }),
    },
    signal,
  }
}

function completePreview({ every = 1, method = 'linear' }: PreviewOptions): Required<PreviewOptions> {
  if (method !== 'linear' && method !== 'autoencoder') throw bad('preview.method', method, "'linear' or 'autoencoder'")
  return { every: whole('preview.every', every, 1, 1000), method }
}

function side(name: string, value: number): number {
  if (Number.isInteger(value) && value >= 64 && value <= 4096 && value % 16 === 0) return value
  const near = Number.isFinite(value) ? `; ${Math.min(4096, Math.max(64, 16 * Math.round(value / 16)))} is nearest` : ''
  throw bad(name, value, `a multiple of 16 from 64 to 4096${near}`)
}

function whole(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) throw bad(name, value, `a whole number from ${least} to ${most}`)
  return value
}

function number(name: string, value: number, least: number, most: number): number {
  if (typeof value !== 'number' || !(value >= least && value <= most)) throw bad(name, value, `a number from ${least} to ${most}`)
  return value
}

function bad(name: string, value: unknown, wanted: string): FluxError {
  const shown = typeof value === 'string' ? `'${value.slice(0, 100)}'` : String(value)
  return new FluxError('FLUX_BAD_OPTION', `${name} is ${shown}; give ${wanted}`)
}
