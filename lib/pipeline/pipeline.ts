import { Estimator, type Estimate } from '../cost/estimate.js'
import { FluxError } from '../errors.js'
import { componentsFor, denoiserOf, type Components, type Encoders, type Variant } from '../families/family.js'
import type { Conditioning } from '../families/conditioning.js'
import { toPlanes, type ImageEncoders } from '../families/image-inputs.js'
import type { DenoiserConfig, ModelFiles } from '../families/registry.js'
import { checkEncodeOptions, encodeImage, loadEncoder } from '../images/encode.js'
import { inBackground } from '../images/background.js'
import { resizeImage } from '../images/resize.js'
import type { LatentFormat } from '../families/latent-format.js'
import type { LatentPreview } from '../families/latent-preview.js'
import type { PullOptions } from '../hub/pull.js'
import { isReference } from '../hub/reference.js'
import type { Job, Work } from '../jobs/job.js'
import { JobQueue } from '../jobs/job-queue.js'
import { totalMemory } from '../native/free-memory.js'
import { requireFinite } from '../networks/finite.js'
import { planLoras, type LoraOptions } from '../networks/lora/assignment.js'
import { adaptTo, versionOf, type Adaptable, type VersionedPlan } from '../networks/lora/ensure-loras.js'
import { isAdaptable } from '../networks/lora/layer-names.js'
import type { LoadedNetwork, NetworkOptions } from '../networks/network.js'
import { untilAborted } from '../options/abort.js'
import { denoise } from '../sampling/denoise.js'
import { guidancePhase, guided } from '../sampling/guidance.js'
import { SAMPLERS, type Predict } from '../sampling/samplers.js'
import { StepCache } from '../sampling/step-cache.js'
import { slerp } from '../sampling/slerp.js'
import { stepNoise } from '../sampling/step-noise.js'
import { decodeState, previewOf, type Decoder } from './decode.js'
import type { GenerateEvent, Stage, StageEvent, StepEvent, WarningEvent } from '../jobs/events.js'
import { filesFromHub } from './files-from-hub.js'
import { completeOptions, type GenerateOptions, type Settings } from './generate-options.js'
import type { HiresSettings } from './hires-options.js'
import type { ImageSettings } from './image-options.js'
import { imageEncoder, requireEncoder, type Encoder } from './encode-image.js'
import { LazyNetwork } from './lazy-network.js'
import { completeLoadOptions, type LoadOptions } from './load-options.js'
import { openModel, type OpenModel } from './open-model.js'
import { parametersOf } from './parameters.js'
import { prepareImages, type EncodedImages, type PreparedImages } from './prepare-images.js'
import { PromptCache } from './prompt-cache.js'
import { startState } from './start-state.js'

export type { LoadOptions }
export type * from '../jobs/events.js'

interface Parts {
  model: OpenModel & { variant: Variant }
  networks: Record<string, LazyNetwork<LoadedNetwork<object>>>
  estimator: Estimator
  /** whether the text encoders stay in memory */
  keep: boolean
  /** how files on the hub are downloaded */
  hub: PullOptions
}

/** What the passes of one image share. */
interface Run {
  index: number
  /** number of steps that are done, and of all */
  before: number
  steps: number
  conditioning: Conditioning
  negative: Conditioning | undefined
  denoiser: LoadedNetwork<object>
  loras: VersionedPlan
  /** undefined after one has failed */
  preview: Settings['preview']
  timings: Record<Stage, number>
  warning: (message: string) => WarningEvent
  signal: AbortSignal
}

/** A model from prompt to image, of any family. Its calls are queued: one image at a time. */
export class ImagePipeline {
  readonly #parts: Parts
  /** name of the component that denoises */
  readonly #denoiser: string
  readonly #prompts = new PromptCache()
  readonly #jobs = new JobQueue()
  /** LoRAs of the last image */
  #loras: VersionedPlan | undefined
  #closing: Promise<void> | undefined

  private constructor(parts: Parts) {
    this.#parts = parts
    this.#denoiser = denoiserOf(parts.model.family)
  }

  /** the denoiser's configuration */
  get config(): DenoiserConfig {
    return this.#parts.model.networks[this.#denoiser]!.config as DenoiserConfig
  }

  /**
   * Checks all files of a model and loads it.
   *
   * @param source 'tiny' (the model in this package), 'flux.1-schnell' or another preset, 'hf:owner/name:Q4_K_S'
   *   (presets and repositories are downloaded once), a folder with the model's files, one file with all networks, or
   *   the files themselves
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_BAD_OPTION, FLUX_UNSUPPORTED, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE; the signal's reason when aborted
   */
  static async load(source: string | (ModelFiles & LoadOptions), options: LoadOptions = {}): Promise<ImagePipeline> {
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
    const downloads: PullOptions = { ...hub, ...(onDownload ? { onProgress: onDownload } : {}) }
    const opened = await openModel(model, { ...downloads, ...(signal ? { signal } : {}) })
    const { family, networks, variant } = opened
    const needed = Object.keys(networks).filter((name) => family.components[name]!.required)
    const total = needed.reduce((sum, name) => sum + networks[name]!.bytes, 0)
    const keep = textEncoders === 'keep' || (textEncoders === 'auto' && total <= totalMemory() / 2)
    const loaded: Record<string, number> = {}
    const lazily = (name: string): LazyNetwork<LoadedNetwork<object>> => {
      const { file, bytes } = networks[name]!
      const { network, stage, required } = family.components[name]!
      const { scale, shift } = variant.latent
      const config = stage === 'decode' ? { scaleFactor: scale, shiftFactor: shift } : {}
      const tell = (progress: number) => {
        loaded[name] = progress * bytes
        onProgress?.(Object.values(loaded).reduce((sum, bytes) => sum + bytes) / total)
      }
      const options: NetworkOptions = { ...device, ...(onProgress && required ? { onProgress: tell } : {}) }
      return new LazyNetwork((signal) => network.load({ path: file.path, config }, { ...options, signal }))
    }
    const pipeline = new ImagePipeline({
      model: opened,
      networks: Object.fromEntries(Object.keys(networks).map((name) => [name, lazily(name)])),
      estimator: new Estimator(opened, device, keep),
      keep,
      hub: downloads,
    })
    try {
      if (keep) for (const name of needed) await pipeline.#parts.networks[name]!.get(signal)
      return pipeline
    } catch (error) {
      await pipeline.close()
      throw error
    }
  }

  /**
   * Generates one image.
   *
   * @returns the bytes of the image file (PNG unless `format` says otherwise); the generation parameters are embedded
   *   as text
   * @throws {FluxError} FLUX_BAD_OPTION; FLUX_UNSUPPORTED when the format needs sharp and it is not installed;
   *   FLUX_OUT_OF_MEMORY, FLUX_DEVICE, FLUX_CLOSED; what {@link load} throws, if a network is loaded only now; the
   *   signal's reason when aborted
   */
  async generate(options: Omit<GenerateOptions, 'preview' | 'count'>): Promise<Buffer>
  /** Generates `count` images. Otherwise as above. */
  async generate(options: Omit<GenerateOptions, 'preview'>): Promise<Buffer[]>
  async generate(options: Omit<GenerateOptions, 'preview'>): Promise<Buffer | Buffer[]> {
    const settings = this.#complete(options)
    if (settings.preview)
      throw new FluxError(
        'FLUX_BAD_OPTION',
        'preview is given to generate(), which shows none; expected it to be left out, or stream() or submit()',
      )
    const job = this.#submit(options, settings)
    if (options.count === undefined) return (await job.result).image
    const images: Buffer[] = []
    for await (const event of job.events()) if (event.type === 'image') images.push(event.image)
    return images
  }

  /**
   * Generates one image and yields events: stage, step and warning events, then the image. The first `next()` starts
   * the work, which then continues whether or not the next event is requested. Leaving the loop cancels it.
   *
   * @throws {FluxError} as {@link generate}; wrong options are reported at once, before the first event
   */
  stream(options: GenerateOptions): AsyncGenerator<GenerateEvent, void, undefined> {
    return this.#follow(options, this.#complete(options))
  }

  /**
   * Adds one image as a job to the pipeline's queue, for servers. The job has an id, a position and any number of
   * readers. No reader delays it.
   *
   * @throws {FluxError} FLUX_BAD_OPTION; for all other errors, the job's `result` rejects
   */
  submit(options: GenerateOptions): Job {
    return this.#submit(options, this.#complete(options))
  }

  /**
   * Estimates the cost of an image with these options, without generating it. Nothing is loaded, but images are read,
   * because their size counts.
   *
   * @throws {FluxError} as {@link generate}
   */
  async estimate(options: Omit<GenerateOptions, 'prompt'>): Promise<Estimate> {
    const request = { prompt: '', ...options }
    const settings = this.#complete(request)
    const { images, signal = new AbortController().signal } = settings
    if (!images) return this.#parts.estimator.estimate(settings)
    const { width, height, inputs } = await this.#prepare(request, images, signal)
    const references = inputs.references ?? []
    return this.#parts.estimator.estimate({ ...this.#complete({ ...request, width, height }), references })
  }

  #complete(options: GenerateOptions): Settings {
    const { family, variant } = this.#parts.model
    return completeOptions(options, family, variant)
  }

  async *#follow(options: GenerateOptions, settings: Settings): AsyncGenerator<GenerateEvent, void, undefined> {
    const job = this.#submit(options, settings)
    try {
      for await (const event of job.events()) {
        settings.signal?.throwIfAborted()
        yield event
      }
    } finally {
      job.cancel()
    }
  }

  /** Rejects options that would make the job fail at the end, before any work starts. */
  #submit(options: GenerateOptions, settings: Settings): Job {
    const { preview, encode, images, signal } = settings
    const { family, networks, variant } = this.#parts.model
    const [previewDecoder] = componentsFor(family, 'preview')
    if (preview && preview.method === variant.latent.previewDecoder && !networks[previewDecoder!]) {
      const lacks = `preview.method is '${preview.method}', but the model has no ${previewDecoder}`
      throw new FluxError('FLUX_BAD_OPTION', `${lacks}: give the file of such a decoder to load, or take 'linear'`)
    }
    if (images || settings.hires?.upscale === 'image') {
      const { file, config } = networks[componentsFor(family, 'decode')[0]!]!
      requireEncoder(file, config as object)
    }
    checkEncodeOptions({ ...encode, parameters: this.#parameters(settings) })
    return this.#jobs.add((signal) => this.#series(options, settings, signal), signal, settings.count)
  }

  /** Makes `count` images, with seeds that follow each other: the second ones, where there is a variation. */
  async *#series(given: GenerateOptions, { seed, onWarning }: Settings, signal: AbortSignal): ReturnType<Work> {
    const warnings: string[] = []
    const hub = { ...this.#parts.hub, signal, onWarning: (message: string) => void warnings.push(message) }
    const options = { ...(await filesFromHub(given, hub)), seed }
    const settings = this.#complete(options)
    const { images, variation, count } = settings
    const prepared = images && (await this.#prepare(options, images, signal))
    for (const message of [...warnings, ...(prepared?.warnings ?? [])]) {
      onWarning?.(message)
      yield { type: 'warning', message }
    }
    // the images determine the size, and with it the noise levels
    const sized = prepared ? this.#complete({ ...options, width: prepared.width, height: prepared.height }) : settings
    const large = images && sized.hires ? await this.#prepare(sized.hires, images, signal) : undefined
    for (let index = 0; ; index++) {
      const next = variation ? { variation: { ...variation, seed: variation.seed + index } } : { seed: seed + index }
      const image = yield* this.#make({ ...sized, ...next }, index, { prepared, large }, signal)
      if (index === count - 1) return image
      yield image
    }
  }

  /** Reads the images of a request, and checks them against the model. */
  async #prepare(
    { width, height }: Pick<GenerateOptions, 'width' | 'height'>,
    images: ImageSettings,
    signal: AbortSignal,
  ): Promise<PreparedImages> {
    const { family, networks, variant } = this.#parts.model
    const prepared = await prepareImages(images, variant, { width, height, signal })
    const { controlNets = [], ipAdapters = [] } = prepared.inputs
    // an estimate leaves files on the hub
    const isHere = ({ path }: { path: string }) => !isReference(path)
    const here = { controlNets: controlNets.filter(isHere), ipAdapters: ipAdapters.filter(isHere) }
    await family.checkImages?.({ ...prepared.inputs, ...here }, networks)
    return prepared
  }

  /** the generation parameters as text */
  #parameters(settings: Settings): string {
    const { networks, variant } = this.#parts.model
    return parametersOf(settings, networks[this.#denoiser]!.file.path, variant.defaults)
  }

  async *#make(
    settings: Settings,
    index: number,
    { prepared, large }: { prepared: PreparedImages | undefined; large: PreparedImages | undefined },
    signal: AbortSignal,
  ): ReturnType<Work> {
    const { seed, hires, encode, images, onWarning } = settings
    const parameters = this.#parameters(settings)
    const { estimator } = this.#parts
    const { family, variant } = this.#parts.model
    const { latent } = variant
    const { format = 'png' } = encode
    const timings: Record<Stage, number> = { text: 0, encode: 0, load: 0, denoise: 0, decode: 0 }
    const warning = (message: string): WarningEvent => {
      onWarning?.(message)
      return { type: 'warning', message }
    }
    await loadEncoder(format)
    yield { type: 'stage', stage: 'text' }
    const lap = stopwatch()
    const loras = await this.#plan(settings.loras)
    for (const message of unmatched(settings.loras, loras)) yield warning(message)
    requireControl(loras, variant.reads, images?.controlImage !== undefined)
    const conditioning = await this.#encode(settings, loras, signal)
    const negative = settings.trueCfg
      ? await this.#encode({ ...settings, prompt: settings.negativePrompt }, loras, signal)
      : undefined
    timings.text = lap()

    if (prepared && !prepared.encoded) yield { type: 'stage', stage: 'encode' }
    if (prepared) prepared.encoded ??= await this.#encodeImages(prepared, signal)
    timings.encode = lap()

    if (!this.#parts.networks[this.#denoiser]!.loaded) yield { type: 'stage', stage: 'load' }
    const denoiser = await this.#network(this.#denoiser, loras, signal)
    await family.attach?.(denoiser as never, prepared?.inputs ?? {}, signal)
    timings.load = lap()

    yield { type: 'stage', stage: 'denoise' }
    const steps = settings.sigmas.length - 1 + (hires ? hires.sigmas.length - 1 : 0)
    const { preview } = settings
    const run: Run = {
      index,
      before: 0,
      steps,
      conditioning,
      negative,
      denoiser,
      loras,
      preview,
      timings,
      warning,
      signal,
    }
    let last: Settings = settings
    let state = yield* this.#steps(run, settings, prepared)
    if (hires) {
      last = { ...settings, ...hires }
      const image = yield* this.#enlarge(state, settings, hires, run)
      if (large && !large.encoded) {
        yield { type: 'stage', stage: 'encode' }
        lap()
        large.encoded = await this.#encodeImages(large, signal)
        timings.encode += lap()
      }
      yield { type: 'stage', stage: 'denoise' }
      state = yield* this.#steps(run, last, { encoded: { images: large?.encoded?.images, image } })
    }
    lap()

    yield { type: 'stage', stage: 'decode' }
    // each network frees its buffers before the next one starts: gigabytes at 1024 x 1024
    await denoiser.trim()
    const decoder = await this.#decoder('decode', signal)
    const { rgb, tile } = await decodeState(decoder, { ...shapeOf(latent, last), state, signal })
    await decoder.trim()
    const drawn = { data: rgb, width: last.width, height: last.height }
    const result = prepared ? await prepared.finish(drawn) : drawn
    const image = await untilAborted(
      encodeImage(result.data, result.width, result.height, { ...encode, parameters }),
      signal,
    )
    const ms = lap()
    timings.decode += ms
    if (tile === undefined) estimator.observe('decode', last, ms)
    return {
      type: 'image',
      index,
      image,
      format,
      width: result.width,
      height: result.height,
      seed,
      parameters,
      truncated: conditioning.truncated,
      ...(tile === undefined ? {} : { tile }),
      timings,
    }
  }

  /** Runs the steps of one pass, and returns the state after the last one. */
  async *#steps(
    run: Run,
    settings: Settings,
    prepared: Pick<PreparedImages, 'encoded' | 'mask'> | undefined,
  ): AsyncGenerator<StepEvent | WarningEvent, Float32Array, undefined> {
    const { index, before, steps, conditioning, negative, denoiser, loras, timings, warning, signal } = run
    const { sigmas, seed, variation, sampler } = settings
    const { estimator } = this.#parts
    const { family, variant } = this.#parts.model
    const { latent } = variant
    const lap = stopwatch()
    const shape = { ...shapeOf(latent, settings), signal }
    const { keep, ...start } = await startState(family, variant, settings, prepared)
    let { latents } = start
    const encoded = prepared?.encoded?.images
    let asked = false
    const bind = (conditioning: Conditioning): Predict => {
      const bound = family.bind(denoiser as never, { ...conditioning, images: encoded }, settings, signal)
      return async (x, sigma) => {
        asked = true
        const began = performance.now()
        const output = await bound(x, sigma)
        estimator.observe('step', settings, performance.now() - began)
        const what = `the ${this.#denoiser}'s prediction at noise level ${sigma}`
        requireFinite(output, what, denoiser.path, loras.assigned[this.#denoiser])
        return output
      }
    }
    const evaluate = negative ? guided(bind(conditioning), bind(negative), settings.trueCfg!) : bind(conditioning)
    const predict =
      settings.stepCache > 0
        ? new StepCache(evaluate, settings.stepCache, settings.trueCfg && guidancePhase(settings.trueCfg)).predict
        : evaluate
    const { prediction } = family
    const { rows, columns } = shape
    const noiseOf = (seed: number) =>
      stepNoise({
        seed,
        shape: [1, latent.channels, rows, columns],
        variant: settings.noise,
        toState: (values) => latent.toState(values, rows, columns),
      })
    const own = noiseOf(seed)
    const other = variation && noiseOf(variation.seed)
    const noise: typeof own = other ? (...way) => slerp(own(...way), other(...way), variation.strength) : own
    const input = { predict, latents, sigmas, sampler: SAMPLERS[sampler], noise, prediction, keep, signal }
    for await (const state of denoise(input)) {
      const { sigma, sigmaNext } = state
      const step = before + state.step
      const { preview } = run
      latents = state.latents
      const ms = lap()
      timings.denoise += ms
      let shown: { preview?: LatentPreview } = {}
      if (preview && step % preview.every === 0) {
        try {
          const decoder = (stage: 'preview' | 'decode') => this.#decoder(stage, signal)
          shown = { preview: await previewOf(preview.method, { ...shape, state: state.denoised }, decoder) }
        } catch (error) {
          if (signal.aborted || !(error instanceof FluxError)) throw error
          run.preview = undefined
          yield warning(`the preview of step ${step} failed, and there will be no more: ${error.message}`)
        }
      }
      yield { type: 'step', index, step, steps, sigma, sigmaNext, ms, reused: !asked, ...shown }
      asked = false
      lap()
    }
    run.before += sigmas.length - 1
    return latents
  }

  /** Enlarges the state after the first pass, as a latent or as an image. */
  async *#enlarge(
    state: Float32Array,
    settings: Settings,
    { width, height, upscale }: HiresSettings,
    { denoiser, timings, signal }: Run,
  ): AsyncGenerator<StageEvent, Float32Array, undefined> {
    const { latent } = this.#parts.model.variant
    const from = shapeOf(latent, settings)
    if (upscale === 'latent') {
      const { rows, columns } = shapeOf(latent, { width, height })
      const latents = latent.toLatent(state, from.rows, from.columns)
      const sizes = [[from.rows, from.columns] as const, [rows, columns] as const] as const
      return latent.toState(await inBackground('enlargeLatent', [latents, ...sizes]), rows, columns)
    }
    yield { type: 'stage', stage: 'decode' }
    const lap = stopwatch()
    await denoiser.trim()
    const decoder = await this.#decoder('decode', signal)
    const { rgb: data } = await decodeState(decoder, { ...from, state, signal })
    await decoder.trim()
    const start = await resizeImage({ data, width: settings.width, height: settings.height }, width, height, 'cover')
    timings.decode += lap()
    yield { type: 'stage', stage: 'encode' }
    const { image } = await this.#encodeImages({ inputs: {}, start, width, height }, signal)
    timings.encode += lap()
    return image!
  }

  /** Encodes a prompt, unless it is known. */
  #encode(settings: Settings, loras: VersionedPlan, signal: AbortSignal): Promise<Conditioning> {
    return this.#prompts.get(this.#promptKey(settings, loras), async () => {
      const began = performance.now()
      const conditioning = await this.#parts.model.family.encode(settings, this.#encoders(loras, signal))
      this.#parts.estimator.observe('text', settings, performance.now() - began)
      return conditioning
    })
  }

  /** Encodes the images: the tensors that the denoiser reads, and the state of the image to start from. */
  async #encodeImages(
    { inputs, start, width, height }: Pick<PreparedImages, 'inputs' | 'start' | 'width' | 'height'>,
    signal: AbortSignal,
  ): Promise<EncodedImages> {
    const { family, variant } = this.#parts.model
    const { latent } = variant
    const decoder = await this.#decoder('decode', signal)
    const vae = imageEncoder(decoder as unknown as Encoder, latent, signal)
    const run: ImageEncoders['run'] = async (name, work) => {
      try {
        return await work((await this.#parts.networks[name]!.get(signal)) as never, { signal })
      } finally {
        if (!this.#parts.keep) await this.#parts.networks[name]!.release()
      }
    }
    const images = await family.encodeImages?.(inputs, { width, height }, { vae, run })
    const started = start && (await vae(toPlanes(start), height, width))
    await decoder.trim()
    const [rows, columns] = [height / latent.reduction, width / latent.reduction]
    return { images, ...(started ? { image: latent.toState(started, rows, columns) } : {}) }
  }

  /** Assigns the LoRAs to the networks, from the LoRA files as they are now. */
  async #plan(loras: readonly LoraOptions[]): Promise<VersionedPlan> {
    const version = await versionOf(loras)
    if (this.#loras?.version === version) return this.#loras
    const { networks } = this.#parts.model
    const adaptable = Object.entries(networks).flatMap(([name, network]) =>
      isAdaptable(network) ? [[name, network] as const] : [],
    )
    return (this.#loras = { ...(await planLoras(loras, Object.fromEntries(adaptable))), version })
  }

  /** Returns a key of everything that a conditioning depends on. */
  #promptKey({ prompt, promptWeights, maxSequenceLength }: Settings, { assigned, version }: VersionedPlan): string {
    const { family } = this.#parts.model
    const adapted = componentsFor(family, 'text').some((name) => (assigned[name] ?? []).length > 0)
    return JSON.stringify([family.id, maxSequenceLength, prompt, promptWeights, adapted ? version : ''])
  }

  #encoders(loras: VersionedPlan, signal: AbortSignal): Encoders<Components> {
    const { networks, keep, model } = this.#parts
    return {
      tokenizers: model.tokenizers,
      run: async (name, work) => {
        try {
          const encoder = await this.#network(name, loras, signal)
          const output = await work(encoder, { signal })
          const { label = name } = model.family.components[name]!
          requireFinite(output, `the output of the ${label}`, encoder.path, loras.assigned[name])
          return output
        } finally {
          if (!keep) await networks[name]!.release()
        }
      },
    }
  }

  /** Loads a network if it is not loaded, and applies its LoRAs. */
  async #network(name: string, { assigned }: VersionedPlan, signal: AbortSignal): Promise<LoadedNetwork<object>> {
    const network = await this.#parts.networks[name]!.get(signal)
    if (assigned[name]) await adaptTo(network as unknown as Adaptable, assigned[name])
    return network
  }

  async #decoder(stage: 'preview' | 'decode', signal: AbortSignal): Promise<Decoder & LoadedNetwork<object>> {
    const [name] = componentsFor(this.#parts.model.family, stage)
    return (await this.#parts.networks[name!]!.get(signal)) as Decoder & LoadedNetwork<object>
  }

  /** Cancels running and waiting jobs with FLUX_CLOSED, then frees all memory. Idempotent. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await this.#jobs.close(new FluxError('FLUX_CLOSED', 'the pipeline was closed; load it again'))
    await Promise.all(Object.values(this.#parts.networks).map((network) => network.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** The former name. Both names load models of every family. */
export { ImagePipeline as FluxPipeline }

/** Returns a function that gives the milliseconds since its last call. */
function stopwatch(): () => number {
  let clock = performance.now()
  return () => -clock + (clock = performance.now())
}

function shapeOf(latent: LatentFormat, { width, height }: { width: number; height: number }) {
  return { latent, rows: height / latent.reduction, columns: width / latent.reduction }
}

/** Rejects a control image that nothing reads, and its absence where something needs one. */
function requireControl({ widening }: VersionedPlan, reads: Variant['reads'], given: boolean): void {
  if (widening !== undefined && !given)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `${widening}: this LoRA reads a control image (Canny, Depth); give controlImage`,
    )
  if (widening === undefined && given && reads !== 'control') {
    const remedy = 'give a model or a LoRA for control images (Canny, Depth), or leave controlImage out'
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `controlImage is given, but neither the model nor a LoRA reads it; ${remedy}`,
    )
  }
}

/** Reports, for each LoRA, the tensors that belong to no layer and have no effect. */
function unmatched(loras: readonly LoraOptions[], { unmatched: names }: VersionedPlan): string[] {
  return names.flatMap(([name, ...others], i) => {
    if (name === undefined) return []
    const names = others.length === 0 ? `tensor ${name} belongs` : `${others.length + 1} tensors, ${name} first, belong`
    return [`${loras[i]!.path}: ${names} to no layer of the model, and will do nothing`]
  })
}
