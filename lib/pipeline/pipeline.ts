import type { Estimate } from '../cost/estimate.js'
import { FluxError } from '../errors.js'
import { componentsFor, denoiserOf } from '../families/family.js'
import type { DenoiserConfig, ModelFiles } from '../families/registry.js'
import { checkEncodeOptions } from '../images/encode.js'
import type { PullOptions } from '../hub/pull.js'
import type { GenerateEvent } from '../jobs/events.js'
import type { Job, Work } from '../jobs/job.js'
import { JobQueue } from '../jobs/job-queue.js'
import type { Device } from '../native/devices.js'
import { badOption } from '../options/checks.js'
import type { ProfileRow } from '../networks/network.js'
import { ChildEngine } from './child-engine.js'
import { requireEncoder } from './encode-image.js'
import type { DrawOptions, Engine } from './engine.js'
import { completeOptions, optionsAtCall, type GenerateOptions, type Settings } from './generate-options.js'
import { completeLoadOptions, type LoadOptions } from './load-options.js'
import { LocalEngine } from './local-engine.js'
import { openModel, resolveSource, type CompleteModel } from './open-model.js'
import { parametersOf } from './parameters.js'

export type { LoadOptions }
export type * from '../jobs/events.js'

/** A model from prompt to image, of any family. Its calls are queued: one image at a time. */
export class ImagePipeline {
  readonly #model: CompleteModel
  readonly #engine: Engine
  readonly #jobs = new JobQueue()
  #closing: Promise<void> | undefined

  private constructor(model: CompleteModel, engine: Engine) {
    this.#model = model
    this.#engine = engine
  }

  /** the denoiser's configuration */
  get config(): DenoiserConfig {
    const { family, networks } = this.#model
    return networks[denoiserOf(family)]!.config as DenoiserConfig
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
    const { model: named, isolate = false, ...wanted } = completeLoadOptions(source, options)
    const { signal, hub, onDownload } = wanted
    signal?.throwIfAborted()
    const downloads: PullOptions = {
      ...hub,
      ...(onDownload ? { onProgress: onDownload } : {}),
      ...(signal ? { signal } : {}),
    }
    const files = await resolveSource(named, downloads)
    const model = await openModel(files, downloads)
    return new ImagePipeline(model, await (isolate ? ChildEngine.load(files, wanted) : LocalEngine.load(model, wanted)))
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
    const { signal } = this.#complete(given)
    return this.#engine.estimate(own(given), signal)
  }

  /**
   * Measures the time of each kind of operation in the steps that begin while `work` runs: in the denoiser's
   * evaluations, those of other jobs in the queue included. Timing each operation separately makes the steps slightly
   * slower.
   *
   * @returns the operations, the one that takes longest first
   * @throws {FluxError} FLUX_BAD_OPTION if `work` is no function; any error that it throws
   */
  async profile(work: () => Promise<unknown>): Promise<ProfileRow[]> {
    if (typeof work !== 'function') throw badOption('work', work, 'a function')
    return this.#engine.profile(work)
  }

  /** Returns the device that computes, with the memory that is free on it now. */
  device(): Promise<Device> {
    return this.#engine.device()
  }

  #complete(options: GenerateOptions): Settings {
    const { family, variant } = this.#model
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
    const { family, networks, variant } = this.#model
    const [previewDecoder] = componentsFor(family, 'preview')
    if (preview && preview.method === variant.latent.previewDecoder && !networks[previewDecoder!]) {
      const lacks = `preview.method is '${preview.method}', but the model has no ${previewDecoder}`
      throw new FluxError('FLUX_BAD_OPTION', `${lacks}: give the file of such a decoder to load, or take 'linear'`)
    }
    if (images || settings.hires?.upscale === 'image') {
      const { file, config } = networks[componentsFor(family, 'decode')[0]!]!
      requireEncoder(file, config as object)
    }
    checkEncodeOptions({ ...encode, parameters: parametersOf(settings, this.#model) })
    return this.#jobs.add((signal) => this.#draw(options, settings, signal), signal, settings.count)
  }

  async *#draw(options: GenerateOptions, { seed, onWarning }: Settings, signal: AbortSignal): ReturnType<Work> {
    const events = this.#engine.draw({ ...own(options), seed }, signal)
    try {
      for (;;) {
        const { value, done } = await events.next()
        if (done) return value
        if (value.type === 'warning') onWarning?.(value.message)
        yield value
      }
    } finally {
      await events.return(undefined as never)
    }
  }

  /** Cancels running and waiting jobs with FLUX_CLOSED, then frees all memory. Idempotent. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    const ended = this.#jobs.close(new FluxError('FLUX_CLOSED', 'the pipeline was closed; load it again'))
    if (this.#engine.endsAtOnce) await this.#engine.close()
    await ended
    await this.#engine.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** The options without what belongs to this process. */
function own({ signal: _, onWarning: _1, ...options }: GenerateOptions): DrawOptions {
  return options
}

/** The former name. Both names load models of every family. */
export { ImagePipeline as FluxPipeline }
