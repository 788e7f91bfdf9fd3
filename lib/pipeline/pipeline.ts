import { basename } from 'node:path'
import { untilAborted } from '../options/abort.js'
import { adaptTo, versionOf, type VersionedPlan } from '../networks/lora/ensure-loras.js'
import { inBackground } from '../images/background.js'
import { FluxError } from '../errors.js'
import { Estimator, type Estimate } from '../cost/estimate.js'
import type { GenerateEvent, Stage, WarningEvent } from './events.js'
import { requireFinite } from '../networks/finite.js'
import { totalMemory } from '../native/free-memory.js'
import { completeOptions, type GenerateOptions, type PreviewOptions, type Settings } from './generate-options.js'
import { Held } from './lazy-network.js'
import { checkEncodeOptions, encodeImage, loadEncoder } from '../images/encode.js'
import type { Job, Work } from '../jobs/job.js'
import { JobQueue } from '../jobs/job-queue.js'
import { imageIds, packLatents, unpackLatents } from '../families/flux1/tokens.js'
import { completeLoadOptions, type LoadOptions } from './load-options.js'
import type { FluxConfig } from '../networks/flux/layout.js'
import type { ModelFiles } from '../model/locate.js'
import { planLoras, type LoraOptions } from '../networks/lora/assignment.js'
import { modelDefaults, type ModelDefaults } from '../families/flux1/variants.js'
import type { NetworkOptions } from '../networks/network.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder, TinyDecoder } from '../nn.js'
import { openModel } from './open-model.js'
import { formatParameters } from '../images/infotext.js'
import { latentPreview, type LatentPreview } from '../images/latent-preview.js'
import { PromptEncoder } from './prompt-encoder.js'
import { denoise } from '../sampling/denoise.js'
import { SAMPLERS } from '../sampling/samplers.js'
import { StepCache } from '../sampling/step-cache.js'
import { decodeWithin, type Decode } from './tiled-decode.js'

export type { LoadOptions }
export type * from './events.js'

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
  readonly #jobs = new JobQueue()
  /** of the last picture */
  #loras: VersionedPlan | undefined
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
    const {
      model,
      textEncoders = 'auto',
      signal,
      onProgress,
      hub,
      onDownload,
      ...device
    } = completeLoadOptions(source, options)
    signal?.throwIfAborted()
    const opened = await openModel(model, {
      ...hub,
      ...(signal ? { signal } : {}),
      ...(onDownload ? { onProgress: onDownload } : {}),
    })
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
      previewDecoder:
        previewDecoder && new Held((signal) => TinyDecoder.load(previewDecoder.file.path, { ...device, signal })),
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
    const settings = this.#complete(options)
    if (settings.preview)
      throw new FluxError(
        'FLUX_BAD_OPTION',
        'preview is given to generate(), which shows none; expected it to be left out, or stream() or submit()',
      )
    return (await this.#submit(settings).result).image
  }

  /**
   * One picture, step by step: stage, step and warning events, then the picture. It is begun by the first `next()`, and then made whether or not
   * the next event is asked for. Leaving the loop cancels it.
   *
   * @throws {FluxError} as {@link generate}; wrong options at once, before the first event
   */
  stream(options: GenerateOptions): AsyncGenerator<GenerateEvent, void, undefined> {
    return this.#follow(this.#complete(options))
  }

  /**
   * One picture as a job in the pipeline's queue, for servers: it has an id, a position and any number of readers, none of whom delays it.
   *
   * @throws {FluxError} FLUX_BAD_OPTION; everything else is what its `result` rejects with
   */
  submit(options: GenerateOptions): Job {
    return this.#submit(this.#complete(options))
  }

  /**
   * What a picture with these options will cost, without making it. Nothing is loaded for it.
   *
   * @throws {FluxError} as {@link generate}
   */
  async estimate(options: Omit<GenerateOptions, 'prompt'>): Promise<Estimate> {
    return this.#parts.estimator.estimate(this.#complete({ prompt: '', ...options }))
  }

  #complete(options: GenerateOptions): Settings {
    return completeOptions(options, this.#parts.config, this.#parts.defaults)
  }

  async *#follow(settings: Settings): AsyncGenerator<GenerateEvent, void, undefined> {
    const job = this.#submit(settings)
    try {
      for await (const event of job.events()) {
        settings.signal?.throwIfAborted()
        yield event
      }
    } finally {
      job.cancel()
    }
  }

  /** Refuses before any work what would fail in the end. */
  #submit(settings: Settings): Job {
    const { prompt, width, height, sigmas, guidance, seed, sampler, scheduler, preview, encode, signal } = settings
    if (preview?.method === 'taef1' && !this.#parts.previewDecoder) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        "preview.method is 'taef1', but the model has no previewDecoder: give the file of TAEF1's decoder to load, or take 'linear'",
      )
    }
    const named = settings.loras.map(({ path, scale = 1 }) => `${basename(path, '.safetensors')} ${scale}`)
    const extra = { 'Step cache': settings.stepCache || undefined, LoRA: named.join(' + ') || undefined }
    const steps = sigmas.length - 1
    const parameters = formatParameters({
      prompt,
      steps,
      sampler,
      scheduler,
      guidance,
      seed,
      width,
      height,
      model: this.#parts.name,
      extra,
    })
    checkEncodeOptions({ ...encode, parameters })
    return this.#jobs.add((signal) => this.#make(settings, parameters, signal), signal)
  }

  async *#make(settings: Settings, parameters: string, signal: AbortSignal): ReturnType<Work> {
    const { prompt, width, height, sigmas, guidance, seed, sampler, encode, onWarning } = settings
    const { prompts, transformer, estimator } = this.#parts
    const { format = 'png' } = encode
    const timings: Record<Stage, number> = { text: 0, load: 0, denoise: 0, decode: 0 }
    const warning = (message: string): WarningEvent => {
      onWarning?.(message)
      return { type: 'warning', message }
    }
    await loadEncoder(format)
    yield { type: 'stage', stage: 'text' }
    let clock = performance.now()
    const lap = (): number => -clock + (clock = performance.now())
    const loras = await this.#plan(settings.loras)
    for (const message of unmatched(settings.loras, loras)) yield warning(message)
    const known = prompts.remembers(prompt, settings.maxSequenceLength, loras)
    const { txt, vec, truncated } = await prompts.encode(prompt, settings.maxSequenceLength, loras, signal)
    timings.text = lap()
    if (!known) estimator.learn('text', settings, timings.text)

    if (!transformer.loaded) yield { type: 'stage', stage: 'load' }
    const flux = await transformer.get(signal)
    await adaptTo(flux, loras.flux)
    timings.load = lap()

    yield { type: 'stage', stage: 'denoise' }
    const [rows, columns] = [height / 8, width / 8]
    let latents = packLatents(
      await inBackground('gaussianNoise', [seed, [1, 16, rows, columns], settings.noise]),
      rows,
      columns,
    )
    const given = {
      imgIds: imageIds(rows / 2, columns / 2),
      txt,
      vec,
      signal,
      ...(guidance === undefined ? {} : { guidance }),
    }
    let asked = false
    const predict = async (img: Float32Array, timestep: number) => {
      asked = true
      const began = performance.now()
      const velocity = await flux.predict({ img, timestep, ...given })
      estimator.learn('step', settings, performance.now() - began)
      requireFinite(velocity, `the transformer's prediction at noise level ${timestep}`, flux.path, loras.flux)
      return velocity
    }
    const evaluate = settings.stepCache > 0 ? new StepCache(predict, settings.stepCache).predict : predict
    let { preview } = settings
    for await (const state of denoise({ predict: evaluate, latents, sigmas, sampler: SAMPLERS[sampler], signal })) {
      const { step, steps, sigma, sigmaNext } = state
      latents = state.latents
      const ms = lap()
      timings.denoise += ms
      let shown: { preview?: LatentPreview } = {}
      if (preview && step % preview.every === 0) {
        try {
          shown = { preview: await this.#preview(state.denoised, rows, columns, preview.method, signal) }
        } catch (error) {
          if (signal.aborted || !(error instanceof FluxError)) throw error
          preview = undefined
          yield warning(`the preview of step ${step} failed, and there will be no more: ${error.message}`)
        }
      }
      yield { type: 'step', step, steps, sigma, sigmaNext, ms, reused: !asked, ...shown }
      asked = false
      lap()
    }

    yield { type: 'stage', stage: 'decode' }
    // each frees what it computed with before the other begins: at 1024 x 1024 gigabytes
    await flux.trim()
    const { rgb, tile } = await this.#decode(latents, rows, columns, signal)
    await (await this.#parts.vae.get(signal)).trim()
    const image = await untilAborted(encodeImage(rgb, width, height, { ...encode, parameters }), signal)
    timings.decode = lap()
    if (tile === undefined) estimator.learn('decode', settings, timings.decode)
    return {
      type: 'image',
      image,
      format,
      width,
      height,
      seed,
      parameters,
      truncated,
      ...(tile === undefined ? {} : { tile }),
      timings,
    }
  }

  /** What each network gets of the LoRAs, of their files as they are now. */
  async #plan(loras: readonly LoraOptions[]): Promise<VersionedPlan> {
    const version = await versionOf(loras)
    if (this.#loras?.version === version) return this.#loras
    return (this.#loras = { ...(await planLoras(loras, this.#parts.configs)), version })
  }

  async #preview(
    denoised: Float32Array,
    rows: number,
    columns: number,
    method: PreviewOptions['method'],
    signal: AbortSignal,
  ): Promise<LatentPreview> {
    if (method === 'linear') {
      return latentPreview(unpackLatents(denoised, rows, columns), rows, columns, 1, this.#parts.defaults.latentRgb)
    }
    const [width, height] = [8 * columns, 8 * rows]
    if (method === 'taef1') {
      const decoder = await this.#parts.previewDecoder!.get(signal)
      const image = await decoder.decode(unpackLatents(denoised, rows, columns), rows, columns, { signal })
      requireFinite(image, 'the output of the preview decoder', decoder.path)
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
  async #decode(
    packed: Float32Array,
    rows: number,
    columns: number,
    signal: AbortSignal,
  ): Promise<{ rgb: Uint8Array<ArrayBuffer>; tile?: number }> {
    const vae = await this.#parts.vae.get(signal)
    const decode: Decode = (latents, height, width) => vae.decode(latents, height, width, { signal })
    const { image, ...tiling } = await decodeWithin(decode, unpackLatents(packed, rows, columns), rows, columns)
    requireFinite(image, 'the output of the decoder', vae.path)
    return {
      rgb: await inBackground('toBytes', [image, 8 * columns, 8 * rows], [image.buffer as ArrayBuffer]),
      ...tiling,
    }
  }

  /** Cancels what runs and what waits with FLUX_CLOSED, then frees all memory. Idempotent. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await this.#jobs.close(new FluxError('FLUX_CLOSED', 'the pipeline was closed; load it again'))
    const { transformer, prompts, vae, previewDecoder } = this.#parts
    await Promise.all([transformer, prompts.t5, prompts.clip, vae, previewDecoder].map((held) => held?.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** Says of each LoRA what in its file does nothing. */
function unmatched(loras: readonly LoraOptions[], { left }: VersionedPlan): string[] {
  return left.flatMap(([name, ...others], i) => {
    if (name === undefined) return []
    const names = others.length === 0 ? `tensor ${name} belongs` : `${others.length + 1} tensors, ${name} first, belong`
    return [`${loras[i]!.path}: ${names} to no layer of the model, and will do nothing`]
  })
}
