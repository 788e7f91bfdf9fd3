import { totalmem } from 'node:os'
import { basename, join } from 'node:path'
import { cacheFolder } from './cache-folder.js'
import { FluxError } from './errors.js'
import { completeOptions, type GenerateOptions, type Settings } from './generate-options.js'
import { Held } from './held.js'
import { encodeImage, toBytes, type ImageFormat } from './image.js'
import { imageIds, packLatents, unpackLatents } from './latents.js'
import type { FluxConfig } from './models/layouts/flux.js'
import { checkModelFiles, locateModelFiles, locateTokenizer, type ModelFiles } from './models/locate.js'
import { openNetworkFile } from './models/network-file.js'
import { synthesizeTinyModel } from './models/tiny-model.js'
import { nativeQuantize } from './native.js'
import type { NetworkOptions } from './network.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder } from './nn.js'
import { formatParameters } from './parameters.js'
import { latentPreview, type LatentPreview } from './preview.js'
import { PromptEncoder } from './prompt-encoder.js'
import { Queue } from './queue.js'
import { denoise } from './sampling/denoise.js'
import { gaussianNoise } from './sampling/noise.js'
import { SAMPLERS } from './sampling/samplers.js'
import { CLIP_TOKENIZER_FILES, ClipTokenizer } from './tokenizers/clip.js'
import { T5_TOKENIZER_FILES, T5Tokenizer } from './tokenizers/t5.js'

export interface LoadOptions extends NetworkOptions {
  /**
   * Whether the text encoders stay in memory between pictures. 'auto': they stay when the four model files together take at most half of
   * this machine's memory. When they don't stay, the transformer is loaded after the first prompt is encoded, so that at the first
   * picture both are never in memory together. @default 'auto'
   */
  textEncoders?: 'auto' | 'keep' | 'release'
  /** share of all four files' weights that is loaded, 0 to 1; told whenever one of them is loaded, so during the first picture as well */
  onProgress?: (progress: number) => void
}

/** What the pipeline is doing; a picture passes through them in this order. */
export type Stage = 'text' | 'load' | 'denoise' | 'decode'

export interface StageEvent {
  type: 'stage'
  stage: Stage
}

export interface StepEvent {
  type: 'step'
  /** from 1 to `steps` */
  step: number
  steps: number
  /** noise level before the step, and after it */
  sigma: number
  sigmaNext: number
  /** milliseconds that the step took */
  ms: number
  /** the picture as the model sees it now, RGB bytes; with the option `preview` */
  preview?: LatentPreview
}

export interface ImageEvent {
  type: 'image'
  /** the file's bytes, or RGB bytes with the format 'raw' */
  image: Buffer
  format: ImageFormat
  width: number
  height: number
  seed: number
  /** how it was made, in A1111's form; it is in the file, too */
  parameters: string
  /** text encoders that saw only the beginning of the prompt */
  truncated: ('t5' | 'clip')[]
  /** milliseconds by stage; loading is counted where it happens */
  timings: Record<Stage, number>
}

export type GenerateEvent = StageEvent | StepEvent | ImageEvent

interface Parts {
  name: string
  config: FluxConfig
  defaultSize: number
  prompts: PromptEncoder
  transformer: Held<FluxTransformer>
  vae: Held<Autoencoder>
}

const TINY_SIZE = 256
const FULL_SIZE = 1024

/** FLUX.1 from prompt to picture. Its calls queue: one picture at a time. */
export class FluxPipeline {
  readonly #parts: Parts
  readonly #queue = new Queue('the pipeline')
  readonly #generating = new Set<Promise<Buffer>>()

  private constructor(parts: Parts) {
    this.#parts = parts
  }

  /** the transformer's configuration */
  get config(): FluxConfig {
    return this.#parts.config
  }

  /**
   * Checks all files of a model and loads it.
   *
   * @param source 'tiny' (a small random model, made on the first call), a flat folder with the model's files, or the files themselves
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_BAD_OPTION, FLUX_UNSUPPORTED, FLUX_OUT_OF_MEMORY, FLUX_DEVICE; the signal's
   *   reason when aborted
   */
  static async load(source: string | (ModelFiles & LoadOptions), options: LoadOptions = {}): Promise<FluxPipeline> {
    const { textEncoders = 'auto', signal, onProgress, backend, threads } = { ...(typeof source === 'object' ? source : {}), ...options }
    if (!['auto', 'keep', 'release'].includes(textEncoders)) {
      throw new FluxError('FLUX_BAD_OPTION', `textEncoders is '${textEncoders}'; give 'auto', 'keep' or 'release'`)
    }
    signal?.throwIfAborted()
    const files = await resolveSource(source)
    checkModelFiles(files)
    const [transformer, t5, clip, vae] = [
      await openNetworkFile('flux', files.transformer),
      await openNetworkFile('t5', files.t5),
      await openNetworkFile('clip', files.clip),
      await openNetworkFile('autoencoder', files.vae),
    ]
    requireFit(transformer.config.inChannels === 64, files.transformer, `takes ${transformer.config.inChannels} channels: it is a Fill, Canny or Depth model, which needs pictures as input; text-to-image needs a model with 64`, 'FLUX_UNSUPPORTED')
    requireFit(t5.config.dModel === transformer.config.contextInDim, files.t5, `gives states of width ${t5.config.dModel}, but the transformer takes ${transformer.config.contextInDim}; give the T5 encoder of this model`)
    requireFit(clip.config.hiddenSize === transformer.config.vecInDim, files.clip, `gives a vector of ${clip.config.hiddenSize}, but the transformer takes ${transformer.config.vecInDim}; give the CLIP encoder of this model`)
    requireFit(vae.config.zChannels * 4 === transformer.config.outChannels && vae.config.chMult.length === 4, files.vae, `has ${vae.config.zChannels} latent channels in ${vae.config.chMult.length} levels, but 16 in 4 are needed; give the autoencoder of FLUX.1 (ae.safetensors)`)
    const tokenizers = {
      t5: !files.tokenizers?.t5 && t5.file.metadata.has('tokenizer.ggml.tokens')
        ? T5Tokenizer.fromGguf(t5.file.metadata)
        : await T5Tokenizer.load(files.tokenizers?.t5 ?? (await locateTokenizer(files.t5, 'tokenizer_2', T5_TOKENIZER_FILES))),
      clip: await ClipTokenizer.load(files.tokenizers?.clip ?? (await locateTokenizer(files.clip, 'tokenizer', CLIP_TOKENIZER_FILES))),
    }

    const sizes = [transformer, t5, clip, vae].map(({ file }) => file.size)
    const total = sizes.reduce((sum, size) => sum + size)
    const keep = textEncoders === 'keep' || (textEncoders === 'auto' && total <= totalmem() / 2)
    const device = { ...(backend === undefined ? {} : { backend }), ...(threads === undefined ? {} : { threads }) }
    const loaded = sizes.map(() => 0)
    const shared = (part: number): NetworkOptions => {
      const tell = (progress: number) => {
        loaded[part] = progress * sizes[part]!
        onProgress?.(loaded.reduce((sum, bytes) => sum + bytes) / total)
      }
      return { ...device, ...(onProgress ? { onProgress: tell } : {}) }
    }
    const pipeline = new FluxPipeline({
      name: basename(files.transformer).replace(/\.(gguf|safetensors)$/i, ''),
      config: transformer.config,
      defaultSize: transformer.config.hiddenSize < 1024 ? TINY_SIZE : FULL_SIZE,
      prompts: new PromptEncoder(
        tokenizers,
        new Held((more) => T5Encoder.load(files.t5, { ...shared(1), ...more })),
        new Held((more) => ClipTextEncoder.load(files.clip, { ...shared(2), ...more })),
        !keep,
      ),
      transformer: new Held((more) => FluxTransformer.load(files.transformer, { ...shared(0), ...more })),
      vae: new Held((more) => Autoencoder.load(files.vae, { ...shared(3), ...more })),
    })
    try {
      if (keep) await pipeline.#loadAll(signal)
      return pipeline
    } catch (error) {
      await pipeline.close()
      throw error
    }
  }

  /**
   * One picture.
   *
   * @returns the picture file's bytes (PNG unless `format` says otherwise); it carries how it was made as text
   * @throws {FluxError} FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_CLOSED; the signal's reason when aborted
   */
  async generate(options: Omit<GenerateOptions, 'preview'>): Promise<Buffer> {
    const picture = lastImage(this.stream(options))
    this.#generating.add(picture)
    try {
      return await picture
    } finally {
      this.#generating.delete(picture)
    }
  }

  /**
   * One picture, step by step: stage and step events, then the picture. Nothing is computed between two events unless the next one is
   * asked for; leaving the loop ends the work and gives the pipeline free.
   *
   * @throws {FluxError} as {@link generate}; wrong options at once, before the first event
   */
  stream(options: GenerateOptions): AsyncGenerator<GenerateEvent, void, undefined> {
    return this.#generate(completeOptions(options, this.#parts.config, this.#parts.defaultSize))
  }

  async *#generate(settings: Settings): AsyncGenerator<GenerateEvent, void, undefined> {
    const { prompt, width, height, sigmas, guidance, seed, sampler, preview, signal } = settings
    const { prompts, transformer, vae } = this.#parts
    const signalled = signal ? { signal } : {}
    const timings: Record<Stage, number> = { text: 0, load: 0, denoise: 0, decode: 0 }
    const leave = await this.#queue.enter(signal)
    try {
      yield { type: 'stage', stage: 'text' }
      let clock = performance.now()
      const lap = (): number => -clock + (clock = performance.now())
      const { txt, vec, truncated } = await prompts.encode(prompt, settings.maxSequenceLength, signal)
      timings.text = lap()

      if (!transformer.loaded) yield { type: 'stage', stage: 'load' }
      lap()
      const flux = await transformer.get(signalled)
      timings.load = lap()

      yield { type: 'stage', stage: 'denoise' }
      const [rows, columns] = [height / 8, width / 8]
      const img = packLatents(gaussianNoise(seed, [1, 16, rows, columns], settings.noise), rows, columns)
      const imgIds = imageIds(rows / 2, columns / 2)
      const predict = (img: Float32Array, timestep: number) =>
        flux.predict({ img, imgIds, txt, vec, timestep, ...(guidance === undefined ? {} : { guidance }), ...signalled })
      let latents = img
      lap()
      for await (const state of denoise({ predict, latents: img, sigmas, sampler: SAMPLERS[sampler], signal })) {
        latents = state.latents
        const ms = lap()
        timings.denoise += ms
        const { step, steps, sigma, sigmaNext } = state
        const show = preview && step % preview.every === 0
        yield { type: 'step', step, steps, sigma, sigmaNext, ms, ...(show ? { preview: await this.#preview(state.denoised, rows, columns, preview.method, signal) } : {}) }
        lap()
      }

      yield { type: 'stage', stage: 'decode' }
      lap()
      const pixels = toBytes(await (await vae.get(signalled)).decode(unpackLatents(latents, rows, columns), rows, columns, signalled), width, height)
      const { scheduler } = settings
      const parameters = formatParameters({ prompt, steps: sigmas.length - 1, sampler, scheduler, guidance, seed, width, height, model: this.#parts.name })
      const image = await encodeImage(pixels, width, height, { ...settings.encode, parameters })
      signal?.throwIfAborted()
      timings.decode = lap()
      yield { type: 'image', image, format: settings.encode.format ?? 'png', width, height, seed, parameters, truncated, timings }
    } finally {
      leave()
    }
  }

  /** @param denoised packed [rows / 2 * columns / 2, 64] */
  async #preview(denoised: Float32Array, rows: number, columns: number, method: 'linear' | 'autoencoder', signal?: AbortSignal): Promise<LatentPreview> {
    const latent = unpackLatents(denoised, rows, columns)
    if (method === 'linear') return latentPreview(latent, rows, columns)
    const vae = await this.#parts.vae.get()
    const [width, height] = [8 * columns, 8 * rows]
    const image = await vae.decode(latent, rows, columns, signal ? { signal } : {})
    return { data: Buffer.from(toBytes(image, width, height).buffer), width, height }
  }

  async #loadAll(signal?: AbortSignal): Promise<void> {
    const { transformer, prompts, vae } = this.#parts
    for (const held of [transformer, prompts.t5, prompts.clip, vae]) await held.get(signal ? { signal } : {})
  }

  /**
   * Waits for the picture that `generate()` is making, refuses those that wait, frees all memory at once. A `stream()` is not waited for,
   * since nobody may be reading it: its next step is refused with FLUX_CLOSED. Idempotent.
   */
  async close(): Promise<void> {
    this.#queue.close()
    await Promise.allSettled(this.#generating)
    const { transformer, prompts, vae } = this.#parts
    await Promise.all([transformer, prompts.t5, prompts.clip, vae].map((held) => held.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

async function lastImage(events: AsyncGenerator<GenerateEvent, void, undefined>): Promise<Buffer> {
  for await (const event of events) if (event.type === 'image') return event.image
  throw new FluxError('FLUX_CLOSED', 'the pipeline was closed before the picture was finished')
}

async function resolveSource(source: string | ModelFiles): Promise<ModelFiles> {
  if (typeof source === 'object' && source !== null) return source
  if (typeof source !== 'string') throw new FluxError('FLUX_BAD_OPTION', `the model is ${String(source)}; give 'tiny', a folder, or { transformer, t5, clip, vae }`)
  return source === 'tiny' ? synthesizeTinyModel(join(cacheFolder(), 'tiny'), nativeQuantize) : locateModelFiles(source)
}

function requireFit(fits: boolean, path: string, message: string, code: 'FLUX_BAD_FILE' | 'FLUX_UNSUPPORTED' = 'FLUX_BAD_FILE'): void {
  if (!fits) throw new FluxError(code, `${path} ${message}`)
}
