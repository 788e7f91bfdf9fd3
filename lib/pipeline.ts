import { basename } from 'node:path'
import { untilAborted } from './abort.js'
import { adaptTo } from './adapt-to.js'
import { inBackground } from './background.js'
import { FluxError } from './errors.js'
import { Estimator, type Estimate } from './estimate.js'
import { totalMemory } from './free-memory.js'
import { completeOptions, type GenerateOptions, type PreviewOptions, type Settings } from './generate-options.js'
import { Held } from './held.js'
import { encodeImage, loadEncoder, type ImageFormat } from './image.js'
import { imageIds, packLatents, unpackLatents } from './latents.js'
import { completeLoadOptions, type LoadOptions } from './load-options.js'
import type { FluxConfig } from './models/layouts/flux.js'
import type { ModelFiles } from './models/locate.js'
import { planLoras, type LoraOptions, type LoraPlan } from './models/lora.js'
import { modelDefaults, type ModelDefaults } from './models/model-defaults.js'
import type { NetworkOptions } from './network.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder, TinyDecoder } from './nn.js'
import { openModel } from './open-model.js'
import { formatParameters } from './parameters.js'
import { latentPreview, type LatentPreview } from './preview.js'
import { PromptEncoder } from './prompt-encoder.js'
import { Queue } from './queue.js'
import { denoise } from './sampling/denoise.js'
import { SAMPLERS } from './sampling/samplers.js'
import { StepCache } from './sampling/step-cache.js'
import { decodeWithin, type Decode } from './tiled-decode.js'

export type { LoadOptions }

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
  /** the model was not asked: its velocity was continued from the steps before; only with the option `stepCache` */
  reused: boolean
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
  /** side in pixels of the tiles that were decoded, where memory did not suffice for the whole picture at once */
  tile?: number
  /** milliseconds by stage; loading is counted where it happens */
  timings: Record<Stage, number>
}

/** Something that the picture does without: it is made, but perhaps not as meant. */
export interface WarningEvent {
  type: 'warning'
  message: string
}

export type GenerateEvent = StageEvent | StepEvent | WarningEvent | ImageEvent

interface Parts {
  name: string
  config: FluxConfig
  /** of all networks that LoRAs can add to */
  configs: Parameters<typeof planLoras>[1]
  defaults: ModelDefaults
  estimator: Estimator
  prompts: PromptEncoder
  transformer: Held<FluxTransformer>
  vae: Held<Autoencoder>
  previewDecoder: Held<TinyDecoder> | undefined
}

/** FLUX.1 from prompt to picture. Its calls queue: one picture at a time. */
export class FluxPipeline {
  readonly #parts: Parts
  readonly #queue = new Queue('the pipeline')
  readonly #generating = new Set<Promise<Buffer>>()
  /** the LoRAs of the last picture, and what each network gets of them */
  #loras: { wanted: string; plan: LoraPlan } | undefined
  #closing: Promise<void> | undefined

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
   * @param source 'tiny' (the model that comes with the package), 'flux.1-schnell' or another preset, 'hf:owner/name:Q4_K_S' (both come from
   *   the hub, once), a folder with the model's files, one file with all networks, or the files themselves
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_BAD_OPTION, FLUX_UNSUPPORTED, FLUX_OUT_OF_MEMORY, FLUX_DEVICE; the signal's
   *   reason when aborted
   */
  static async load(source: string | (ModelFiles & LoadOptions), options: LoadOptions = {}): Promise<FluxPipeline> {
    const { model, textEncoders = 'auto', signal, onProgress, hub, onDownload, ...device } = completeLoadOptions(source, options)
    signal?.throwIfAborted()
    const opened = await openModel(model, { ...hub, ...(signal ? { signal } : {}), ...(onDownload ? { onProgress: onDownload } : {}) })
    const { transformer, t5, clip, vae, previewDecoder, tokenizers } = opened

    const sizes = [transformer, t5, clip, vae].map(({ bytes }) => bytes)
    const total = sizes.reduce((sum, size) => sum + size)
    const keep = textEncoders === 'keep' || (textEncoders === 'auto' && total <= totalMemory() / 2)
    const loaded = sizes.map(() => 0)
    const shared = (part: number): NetworkOptions => {
      const tell = (progress: number) => {
        loaded[part] = progress * sizes[part]!
        onProgress?.(loaded.reduce((sum, bytes) => sum + bytes) / total)
      }
      return { ...device, ...(onProgress ? { onProgress: tell } : {}) }
    }
    const pipeline = new FluxPipeline({
      name: basename(transformer.file.path).replace(/\.(gguf|safetensors)$/i, ''),
      config: transformer.config,
      configs: { flux: transformer.config, t5: t5.config, clip: clip.config },
      defaults: modelDefaults(transformer.file, transformer.config),
      estimator: new Estimator(opened, device, keep),
      prompts: new PromptEncoder(
        tokenizers,
        new Held((signal) => T5Encoder.load(t5.file.path, { ...shared(1), signal })),
        new Held((signal) => ClipTextEncoder.load(clip.file.path, { ...shared(2), signal })),
        !keep,
      ),
      transformer: new Held((signal) => FluxTransformer.load(transformer.file.path, { ...shared(0), signal })),
      vae: new Held((signal) => Autoencoder.load(vae.file.path, { ...shared(3), signal })),
      previewDecoder: previewDecoder && new Held((signal) => TinyDecoder.load(previewDecoder.file.path, { ...device, signal })),
    })
    try {
      const { transformer, prompts, vae } = pipeline.#parts
      if (keep) for (const held of [transformer, prompts.t5, prompts.clip, vae]) await held.get(signal)
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
   * @throws {FluxError} FLUX_BAD_OPTION; FLUX_UNSUPPORTED where the format needs sharp and it is not installed; FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE, FLUX_CLOSED; what {@link load} throws, where a network is loaded only now; the signal's reason when aborted
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
   * asked for; leaving the loop ends the work and lets the next call in. Until then the others wait.
   *
   * @throws {FluxError} as {@link generate}; wrong options at once, before the first event
   */
  stream(options: GenerateOptions): AsyncGenerator<GenerateEvent, void, undefined> {
    return this.#generate(completeOptions(options, this.#parts.config, this.#parts.defaults))
  }

  /**
   * What a picture with these options will cost, without making it. Nothing is loaded for it.
   *
   * @throws {FluxError} as {@link generate}
   */
  async estimate(options: Omit<GenerateOptions, 'prompt'>): Promise<Estimate> {
    return this.#parts.estimator.estimate(completeOptions({ prompt: '', ...options }, this.#parts.config, this.#parts.defaults))
  }

  async *#generate(settings: Settings): AsyncGenerator<GenerateEvent, void, undefined> {
    const { prompt, width, height, sigmas, guidance, seed, sampler, scheduler, preview, encode, signal } = settings
    const { name, prompts, transformer, estimator, previewDecoder } = this.#parts
    if (preview?.method === 'taef1' && !previewDecoder) {
      throw new FluxError('FLUX_BAD_OPTION', "preview.method is 'taef1', but the model has no previewDecoder: give the file of TAEF1's decoder to load, or take 'linear'")
    }
    const { format = 'png' } = encode
    const timings: Record<Stage, number> = { text: 0, load: 0, denoise: 0, decode: 0 }
    const leave = await this.#queue.enter(signal)
    try {
      await loadEncoder(format)
      yield { type: 'stage', stage: 'text' }
      let clock = performance.now()
      const lap = (): number => -clock + (clock = performance.now())
      const loras = yield* this.#plan(settings.loras)
      const known = prompts.remembers(prompt, settings.maxSequenceLength, loras)
      const { txt, vec, truncated } = await prompts.encode(prompt, settings.maxSequenceLength, loras, signal)
      timings.text = lap()
      if (!known) estimator.learn('text', settings, timings.text)

      if (!transformer.loaded) yield { type: 'stage', stage: 'load' }
      lap()
      const flux = await transformer.get(signal)
      await adaptTo(flux, loras.flux)
      timings.load = lap()

      yield { type: 'stage', stage: 'denoise' }
      lap()
      const [rows, columns] = [height / 8, width / 8]
      const img = packLatents(await inBackground('gaussianNoise', [seed, [1, 16, rows, columns], settings.noise]), rows, columns)
      const imgIds = imageIds(rows / 2, columns / 2)
      const given = { imgIds, txt, vec, ...(guidance === undefined ? {} : { guidance }), ...(signal ? { signal } : {}) }
      const predict = async (img: Float32Array, timestep: number) => {
        const began = performance.now()
        const velocity = await flux.predict({ img, timestep, ...given })
        estimator.learn('step', settings, performance.now() - began)
        return velocity
      }
      const cache = settings.stepCache > 0 ? new StepCache(predict, settings.stepCache) : undefined
      let latents = img
      for await (const state of denoise({ predict: cache?.predict ?? predict, latents: img, sigmas, sampler: SAMPLERS[sampler], signal })) {
        const { step, steps, sigma, sigmaNext } = state
        latents = state.latents
        const ms = lap()
        timings.denoise += ms
        const show = preview && step % preview.every === 0
        const shown = show ? { preview: await this.#preview(state.denoised, rows, columns, preview.method, signal) } : {}
        yield { type: 'step', step, steps, sigma, sigmaNext, ms, reused: cache?.reused ?? false, ...shown }
        lap()
      }

      yield { type: 'stage', stage: 'decode' }
      lap()
      // each frees what it computed with before the other begins: at 1024 x 1024 gigabytes
      await flux.trim()
      const { rgb, tile } = await this.#decode(latents, rows, columns, signal)
      await (await this.#parts.vae.get(signal)).trim()
      const steps = sigmas.length - 1
      const named = settings.loras.map(({ path, scale = 1 }) => `${basename(path, '.safetensors')} ${scale}`)
      const extra = { 'Step cache': settings.stepCache || undefined, LoRA: named.join(' + ') || undefined }
      const parameters = formatParameters({ prompt, steps, sampler, scheduler, guidance, seed, width, height, model: name, extra })
      const image = await untilAborted(encodeImage(rgb, width, height, { ...encode, parameters }), signal)
      timings.decode = lap()
      if (tile === undefined) estimator.learn('decode', settings, timings.decode)
      yield { type: 'image', image, format, width, height, seed, parameters, truncated, ...(tile === undefined ? {} : { tile }), timings }
    } finally {
      leave()
    }
  }

  /** What each network gets of the LoRAs; what in their files does nothing is told once. */
  async *#plan(loras: readonly LoraOptions[]): AsyncGenerator<WarningEvent, LoraPlan> {
    const wanted = JSON.stringify(loras)
    if (this.#loras?.wanted === wanted) return this.#loras.plan
    const plan = await planLoras(loras, this.#parts.configs)
    this.#loras = { wanted, plan }
    for (const [i, [name, ...others]] of plan.left.entries()) {
      if (name === undefined) continue
      const names = others.length === 0 ? `tensor ${name} belongs` : `${others.length + 1} tensors, ${name} first, belong`
      yield { type: 'warning', message: `${loras[i]!.path}: ${names} to no layer of the model, and will do nothing` }
    }
    return plan
  }

  async #preview(
    denoised: Float32Array,
    rows: number,
    columns: number,
    method: PreviewOptions['method'],
    signal?: AbortSignal,
  ): Promise<LatentPreview> {
    if (method === 'linear') {
      return latentPreview(unpackLatents(denoised, rows, columns), rows, columns, 1, this.#parts.defaults.latentRgb)
    }
    const [width, height] = [8 * columns, 8 * rows]
    if (method === 'taef1') {
      const decoder = await this.#parts.previewDecoder!.get(signal)
      const image = await decoder.decode(unpackLatents(denoised, rows, columns), rows, columns, signal ? { signal } : {})
      const rgb = await inBackground('toBytes', [image, width, height], [image.buffer as ArrayBuffer])
      return { data: Buffer.from(rgb.buffer), width, height }
    }
    const { rgb } = await this.#decode(denoised, rows, columns, signal)
    return { data: Buffer.from(rgb.buffer), width, height }
  }

  /**
   * @param packed [rows / 2 * columns / 2, 64]
   * @returns rgb [8 rows, 8 columns, 3], and the side of the tiles, if any
   */
  async #decode(packed: Float32Array, rows: number, columns: number, signal?: AbortSignal): Promise<{ rgb: Uint8Array<ArrayBuffer>; tile?: number }> {
    const vae = await this.#parts.vae.get(signal)
    const decode: Decode = (latents, height, width) => vae.decode(latents, height, width, signal ? { signal } : {})
    const { image, ...tiling } = await decodeWithin(decode, unpackLatents(packed, rows, columns), rows, columns)
    return { rgb: await inBackground('toBytes', [image, 8 * columns, 8 * rows], [image.buffer as ArrayBuffer]), ...tiling }
  }

  /**
   * Waits for the picture that `generate()` is making, refuses those that wait, frees all memory at once. A `stream()` is not waited for,
   * since nobody may be reading it: its next step is refused with FLUX_CLOSED. Idempotent.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    this.#queue.close()
    await Promise.allSettled(this.#generating)
    const { transformer, prompts, vae, previewDecoder } = this.#parts
    await Promise.all([transformer, prompts.t5, prompts.clip, vae, previewDecoder].map((held) => held?.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

async function lastImage(events: AsyncGenerator<GenerateEvent, void, undefined>): Promise<Buffer> {
  for await (const event of events) if (event.type === 'image') return event.image
  throw new FluxError('FLUX_CLOSED', 'the pipeline was closed before the picture was finished')
}
