import type { Estimate } from '../cost/estimate.js'
import { FluxError } from '../errors.js'
import type { GenerateEvent, Stage } from '../jobs/events.js'
import { defined } from '../options/defined.js'
import { totalMemory } from '../native/free-memory.js'
import type { Device } from '../native/devices.js'
import type { DrawOptions } from '../pipeline/engine.js'
import type { LoadOptions } from '../pipeline/load-options.js'
import { ImagePipeline } from '../pipeline/pipeline.js'
import type { CatalogueEntry, ModelCatalogue } from './model-catalogue.js'
import type { JobRequest } from './queue.js'
import { shuttingDown } from './refusals.js'
import { RemainingTime, type OtherSeconds } from './remaining-time.js'
import { granted } from './wishes.js'

export interface HostOptions {
  /** milliseconds that a model stays in memory after its last image; Infinity: as long as there is room @default 300000 */
  keepAlive?: number
  /** how models are loaded; in a child process unless `isolate` is false */
  load?: Omit<LoadOptions, 'signal' | 'onProgress' | 'onDownload'>
}

interface Hosted {
  entry: CatalogueEntry
  pipe: ImagePipeline
  lastUse: number
  users: number
  timer?: NodeJS.Timeout
  /** by size, what images took besides their steps */
  seconds: Map<string, OtherSeconds>
  /** it is closed after its last use */
  isStale?: boolean
}

/** What a step event gets in addition. */
export type HostEvent = GenerateEvent & { secondsLeft?: number | null }

/** bytes that stay free on a GPU for what images need besides the weights */
const DEVICE_RESERVE = 1.5 * 2 ** 30

/**
 * Carries out requests with models that are loaded on demand and kept for a time. There is more than one in memory if
 * they all have room.
 */
export class ModelHost {
  readonly catalogue: ModelCatalogue
  readonly #keepAlive: number
  readonly #load: LoadOptions
  readonly #hosted = new Map<string, Hosted>()
  /** models are loaded and closed one at a time */
  #turn: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(catalogue: ModelCatalogue, { keepAlive = 300_000, load = {} }: HostOptions = {}) {
    this.catalogue = catalogue
    this.#keepAlive = keepAlive
    this.#load = { isolate: true, ...load }
  }

  /** The names of the models in memory, the one that was used last first. */
  get loaded(): string[] {
    const hosted = [...this.#hosted.values()].sort((a, b) => b.lastUse - a.lastUse)
    return hosted.map(({ entry }) => entry.description.name)
  }

  /** Makes the images of a request. */
  async *draw(
    { model: name, options, wishes = {} }: JobRequest,
    signal: AbortSignal,
  ): AsyncGenerator<HostEvent, void, undefined> {
    const entry = await this.catalogue.model(name)
    const { defaults, hasPreviewDecoder } = entry.description
    const located = await this.#locate(granted(options, wishes, defaults))
    const { preview } = located
    const drawn = preview ? { ...located, preview: { method: previewMethod(hasPreviewDecoder), ...preview } } : located
    yield { type: 'stage', stage: 'load' }
    const hosted = await this.#acquire(entry, signal)
    try {
      const { pipe } = hosted
      const left = new RemainingTime(options.count ?? 1)
      await this.#predict(left, hosted, located, signal)
      for await (const event of pipe.stream({ ...drawn, signal })) {
        yield event.type === 'step' ? { ...event, secondsLeft: left.after(event) } : event
        if (event.type === 'image') hosted.seconds.set(sizeOf(located), inSeconds(event.timings))
      }
    } catch (error) {
      // one of its files has changed, perhaps: the next request opens them anew
      if (error instanceof FluxError && error.code === 'FLUX_BAD_FILE') {
        this.catalogue.refresh()
        this.#hosted.delete(name)
        hosted.isStale = true
      }
      throw error
    } finally {
      this.#release(hosted)
    }
  }

  /** The devices that models in memory compute on. */
  async devices(): Promise<Device[]> {
    const found = await Promise.all([...this.#hosted.values()].map(({ pipe }) => pipe.device().catch(() => undefined)))
    const byName = new Map(found.flatMap((device) => (device ? [[device.name, device] as const] : [])))
    return [...byName.values()]
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#turn
    await Promise.all([...this.#hosted.values()].map((hosted) => this.#remove(hosted)))
  }

  /**
   * Predicts from the last image of this size, or from an estimate. The first estimate measures the processor, so that
   * nothing may run next to it.
   */
  async #predict(
    left: RemainingTime,
    { pipe, seconds }: Hosted,
    options: DrawOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const known = seconds.get(sizeOf(options))
    if (known) return left.learn(known)
    const estimated = estimate(pipe, options, signal).then(
      ({ seconds }) => left.learn(seconds),
      () => {}, // the image fails for the same reason
    )
    if (seconds.size === 0) await estimated
  }

  #acquire(entry: CatalogueEntry, signal: AbortSignal): Promise<Hosted> {
    return this.#inTurn(async () => {
      signal.throwIfAborted()
      if (this.#closed) throw shuttingDown()
      const { name } = entry.description
      const known = this.#hosted.get(name)
      if (known?.entry.description === entry.description) return use(known)
      if (known) await this.#remove(known) // its files have changed
      for (const hosted of [...this.#hosted.values()].sort((a, b) => a.lastUse - b.lastUse))
        if (hosted.users === 0 && !(await this.#hasRoom(entry))) await this.#remove(hosted)
      const pipe = await ImagePipeline.load(entry.files, { ...this.#load, signal })
      const hosted: Hosted = { entry, pipe, lastUse: Date.now(), users: 0, seconds: new Map() }
      this.#hosted.set(name, hosted)
      return use(hosted)
    })
  }

  #release(hosted: Hosted): void {
    hosted.users--
    hosted.lastUse = Date.now()
    if (hosted.users > 0 || (this.#keepAlive === Infinity && !hosted.isStale)) return
    const unload = () =>
      void this.#inTurn(async () => {
        if (hosted.users === 0) await this.#remove(hosted)
      })
    if (this.#keepAlive === 0 || hosted.isStale) unload()
    else hosted.timer = setTimeout(unload, this.#keepAlive).unref()
  }

  async #remove(hosted: Hosted): Promise<void> {
    clearTimeout(hosted.timer)
    const { name } = hosted.entry.description
    if (this.#hosted.get(name) === hosted) this.#hosted.delete(name)
    await hosted.pipe.close()
  }

  /** Whether a model fits next to those that are loaded. */
  async #hasRoom({ description: { bytes } }: CatalogueEntry): Promise<boolean> {
    const devices = await this.devices()
    const gpu = devices.find(({ kind }) => kind === 'gpu')
    if (gpu) return gpu.memoryFree - DEVICE_RESERVE >= bytes
    const loaded = [...this.#hosted.values()].reduce((sum, { entry }) => sum + entry.description.bytes, 0)
    return loaded + bytes <= totalMemory() / 2
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }

  /** Replaces the names of files by their paths. */
  async #locate(options: DrawOptions): Promise<DrawOptions> {
    const { loras, controlNets, ipAdapters, hires } = options
    const located = <T extends { path: string }>(kind: 'lora' | 'controlNet' | 'ipAdapter', files: readonly T[]) =>
      Promise.all(files.map(async (file) => ({ ...file, path: await this.catalogue.file(kind, file.path) })))
    return {
      ...options,
      ...(loras ? { loras: await located('lora', loras) } : {}),
      ...(controlNets ? { controlNets: await located('controlNet', controlNets) } : {}),
      ...(ipAdapters ? { ipAdapters: await located('ipAdapter', ipAdapters) } : {}),
      ...(hires?.upscaler
        ? { hires: { ...hires, upscaler: await this.catalogue.file('upscaler', hires.upscaler) } }
        : {}),
    }
  }
}

const sizeOf = ({ width, height, hires, image }: DrawOptions): string =>
  JSON.stringify([width, height, hires, image !== undefined])

function inSeconds({ text, encode, decode }: Record<Stage, number>): OtherSeconds {
  return { text: text / 1000, encode: encode / 1000, decode: decode / 1000 }
}

/** What an image of this size takes, without reading the images that it is made from. */
async function estimate(
  pipe: ImagePipeline,
  { width, height, steps, sampler, hires }: DrawOptions,
  signal: AbortSignal,
): Promise<Pick<Estimate, 'seconds'>> {
  const { upscaler: _, ...enlarged } = hires ?? {}
  const size = defined({ width, height, steps, sampler, hires: hires && enlarged })
  return pipe.estimate({ ...size, signal }).catch((error: unknown) => {
    if (!(error instanceof FluxError)) throw error
    return { seconds: undefined } // of a model that takes no image without others
  })
}

function use(hosted: Hosted): Hosted {
  clearTimeout(hosted.timer)
  hosted.users++
  hosted.lastUse = Date.now()
  return hosted
}

const previewMethod = (hasDecoder: boolean): 'taef1' | 'linear' => (hasDecoder ? 'taef1' : 'linear')
