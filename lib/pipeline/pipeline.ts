import { Estimator, type Estimate } from '../cost/estimate.js'
import { FluxError } from '../errors.js'
import { componentsFor } from '../families/family.js'
import type { DenoiserConfig, ModelFiles } from '../families/registry.js'
import { checkEncodeOptions } from '../images/encode.js'
import type { PullOptions } from '../hub/pull.js'
import { isOnHub } from '../hub/plan.js'
import type { Job, Work } from '../jobs/job.js'
import { JobQueue } from '../jobs/job-queue.js'
import { chooseDevice } from '../native/devices.js'
import { totalMemory } from '../native/free-memory.js'
import type { NetworkFile } from '../networks/network-file.js'
import type { LoadedNetwork, NetworkOptions, ProfileRow } from '../networks/network.js'
import type { GenerateEvent } from '../jobs/events.js'
import { withBundledFiles, withLocalFiles } from './local-files.js'
import { completeOptions, optionsAtCall, type GenerateOptions, type Settings } from './generate-options.js'
import type { ImageSettings } from './image-options.js'
import { requireEncoder } from './encode-image.js'
import { idleOptions } from './idle-options.js'
import { LazyNetwork } from './lazy-network.js'
import { completeLoadOptions, type LoadOptions } from './load-options.js'
import { openModel } from './open-model.js'
import { parametersOf } from './parameters.js'
import { costOf, makeImage } from './make-image.js'
import { ModelNetworks } from './model-networks.js'
import { prepareImages, type PreparedImages } from './prepare-images.js'
import { checkUpscaler } from './upscale-image.js'

export type { LoadOptions }
export type * from '../jobs/events.js'

/** A model from prompt to image, of any family. Its calls are queued: one image at a time. */
export class ImagePipeline {
  readonly #networks: ModelNetworks
  /** how files on the hub are downloaded */
  readonly #hub: PullOptions
  readonly #jobs = new JobQueue()
  /** reported with the first image */
  #warnings: string[]
  #closing: Promise<void> | undefined

  private constructor(networks: ModelNetworks, hub: PullOptions, warnings: string[]) {
    this.#networks = networks
    this.#hub = hub
    this.#warnings = warnings
  }

  /** the denoiser's configuration */
  get config(): DenoiserConfig {
    const { model, denoiserName } = this.#networks
    return model.networks[denoiserName]!.config as DenoiserConfig
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
      ...wanted
    } = completeLoadOptions(source, options)
    signal?.throwIfAborted()
    const { name, warnings } = await chooseDevice(wanted.backend, signal ? { signal } : {})
    const device: NetworkOptions = { ...wanted, backend: name }
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
    const lazy = Object.fromEntries(Object.keys(networks).map((name) => [name, lazily(name)]))
    const estimator = new Estimator(opened, device, keep)
    const pipeline = new ImagePipeline(new ModelNetworks(opened, estimator, keep, lazy, device), downloads, warnings)
    try {
      if (keep) for (const name of needed) await lazy[name]!.get(signal)
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
  async generate(given: Omit<GenerateOptions, 'preview'>): Promise<Buffer | Buffer[]> {
    const options = optionsAtCall(given)
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
  stream(given: GenerateOptions): AsyncGenerator<GenerateEvent, void, undefined> {
    const options = optionsAtCall(given)
    return this.#follow(options, this.#complete(options))
  }

  /**
   * Adds one image as a job to the pipeline's queue, for servers. The job has an id, a position and any number of
   * readers. No reader delays it.
   *
   * @throws {FluxError} FLUX_BAD_OPTION; for all other errors, the job's `result` rejects
   */
  submit(given: GenerateOptions): Job {
    const options = optionsAtCall(given)
    return this.#submit(options, this.#complete(options))
  }

  /**
   * Estimates the cost of an image with these options, without generating it. Nothing is loaded, but images are read,
   * because their size counts.
   *
   * @throws {FluxError} as {@link generate}
   */
  async estimate(options: Omit<GenerateOptions, 'prompt'>): Promise<Estimate> {
    const given = optionsAtCall({ prompt: '', ...options })
    this.#complete(given) // checks the options
    const request = withBundledFiles(given)
    const settings = this.#complete(request)
    const { images, signal = new AbortController().signal } = settings
    if (!images) return this.#networks.estimator.estimate(settings)
    const prepared = await this.#prepare(request, images, signal)
    const { width, height } = prepared
    return this.#networks.estimator.estimate(costOf(this.#complete({ ...request, width, height }), prepared))
  }

  /**
   * Measures the time of each kind of operation in the steps that begin while `work` runs: in the denoiser's
   * evaluations, those of other jobs in the queue included. Timing each operation separately makes the steps slightly
   * slower.
   *
   * @returns the operations, the one that takes longest first
   * @throws {FluxError} FLUX_BAD_OPTION if `work` is no function; any error that it throws
   */
  profile(work: () => Promise<unknown>): Promise<ProfileRow[]> {
    return this.#networks.profile(work)
  }

  #complete(options: GenerateOptions): Settings {
    const { family, variant } = this.#networks.model
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
    const { family, networks, variant } = this.#networks.model
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
    const warnings = this.#warnings.splice(0)
    const hub = { ...this.#hub, signal, onWarning: (message: string) => void warnings.push(message) }
    const options = { ...(await withLocalFiles(given, hub)), seed }
    const settings = this.#complete(options)
    const { images, variation, count } = settings
    if (settings.hires?.upscaler !== undefined) await checkUpscaler(settings.hires.upscaler)
    const prepared = images && (await this.#prepare(options, images, signal))
    // the images determine the size, and with it the noise levels
    const sized = prepared ? this.#complete({ ...options, width: prepared.width, height: prepared.height }) : settings
    for (const message of [...warnings, ...(prepared?.warnings ?? []), ...idleOptions(sized)]) {
      onWarning?.(message)
      yield { type: 'warning', message }
    }
    const { attached } = prepared ?? {}
    const large = images && sized.hires ? await this.#prepare(sized.hires, images, signal, attached) : undefined
    for (let index = 0; ; index++) {
      const next = variation ? { variation: { ...variation, seed: variation.seed + index } } : { seed: seed + index }
      const own = { ...sized, ...next }
      const parameters = this.#parameters({ ...own, ...prepared?.requested })
      const task = { networks: this.#networks, settings: own, index, prepared, large, parameters, signal }
      const image = yield* makeImage(task)
      if (index === count - 1) return image
      yield image
    }
  }

  /**
   * Reads the images of a request, and checks them against the model.
   *
   * @param checked the files that are attached, if another size of the same request has been checked
   */
  async #prepare(
    { width, height }: Pick<GenerateOptions, 'width' | 'height'>,
    images: ImageSettings,
    signal: AbortSignal,
    checked?: readonly NetworkFile<object>[],
  ): Promise<PreparedImages> {
    const { family, networks, variant } = this.#networks.model
    const prepared = await prepareImages(images, variant, { width, height, signal })
    const { controlNets = [], ipAdapters = [] } = prepared.inputs
    // an estimate leaves files on the hub
    const isHere = ({ path }: { path: string }) => !isOnHub(path)
    const here = { controlNets: controlNets.filter(isHere), ipAdapters: ipAdapters.filter(isHere) }
    const inputs = { ...prepared.inputs, ...here }
    const attached = checked ?? (await family.checkImages?.(inputs, networks))
    return { ...prepared, inputs, ...(attached ? { attached } : {}) }
  }

  /** the generation parameters as text */
  #parameters(settings: Settings): string {
    const { model, denoiserName } = this.#networks
    return parametersOf(settings, model.networks[denoiserName]!.file.path, model.variant.defaults)
  }

  /** Cancels running and waiting jobs with FLUX_CLOSED, then frees all memory. Idempotent. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await this.#jobs.close(new FluxError('FLUX_CLOSED', 'the pipeline was closed; load it again'))
    await this.#networks.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** The former name. Both names load models of every family. */
export { ImagePipeline as FluxPipeline }
