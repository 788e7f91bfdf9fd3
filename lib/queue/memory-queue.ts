import { randomUUID } from 'node:crypto'
import { FluxError } from '../errors.js'
import { EventLog } from '../jobs/event-log.js'
import { imageKey, MemoryStore, type ImageStore } from './image-store.js'
import { failure, jobEvents, type NewJobEvent } from './job-events.js'
import { newStatus, statusAfter } from './job-status.js'
import { requireRoom, sameRequest, shuttingDown } from './refusals.js'
import { detachImages } from './request-images.js'
import type { ModelHost } from './model-host.js'
import type {
  AddOptions,
  ImageQueue,
  JobEvent,
  JobRequest,
  JobStatus,
  ModelState,
  QueueCounts,
  QueuedJob,
} from './queue.js'

export interface MemoryQueueOptions {
  /** most jobs that wait @default 100 */
  waiting?: number
  /** most jobs of one client, waiting and running @default 20 */
  perClient?: number
  /** most bytes of images that came with jobs, waiting and running @default 512 MiB */
  imageBytes?: number
  /** milliseconds that a job and its images are kept after its end @default one hour */
  keep?: number
  /** @default in memory, 512 MiB */
  store?: ImageStore
  /** receives faults of ours */
  onError?: (error: unknown, id: string) => void
}

/** milliseconds that previews are kept after the end of a job, for followers that lag behind */
const PREVIEWS_AFTER_END = 5000
/** most jobs that are kept after their end */
const MOST_KEPT = 1000

/** A queue in this process, which carries out one job at a time. It does not survive the process. */
export class MemoryQueue implements ImageQueue {
  readonly #host: ModelHost
  readonly #options: Required<MemoryQueueOptions>
  /** those that are over as well, the oldest first */
  readonly #jobs = new Map<string, MemoryJob>()
  /** in the order of their turns */
  #waiting: MemoryJob[] = []
  #running: MemoryJob | undefined
  #ended: Promise<void> = Promise.resolve()
  /** in the order of their ends */
  readonly #over: MemoryJob[] = []
  readonly #timer: NodeJS.Timeout
  readonly #listeners: ((status: JobStatus) => void)[] = []
  #closed = false

  constructor(host: ModelHost, options: MemoryQueueOptions = {}) {
    this.#host = host
    this.#options = {
      ...{
        waiting: 100,
        perClient: 20,
        imageBytes: 512 * 2 ** 20,
        keep: 3_600_000,
        store: new MemoryStore(),
        onError: () => {},
      },
      ...options,
    }
    this.#timer = setInterval(() => this.#forgetOld(), Math.min(60_000, this.#options.keep)).unref()
  }

  async add(
    request: JobRequest,
    { client, id = randomUUID(), priority = 0, fingerprint = '' }: AddOptions,
  ): Promise<QueuedJob> {
    if (this.#closed) throw shuttingDown()
    await this.#host.catalogue.check(request) // so that a wrong request fails at once
    const known = this.#jobs.get(id)
    if (known) return sameRequest(known, known.fingerprint === fingerprint)
    const { waiting, perClient, imageBytes } = this.#options
    const active = this.#running ? [this.#running, ...this.#waiting] : this.#waiting
    requireRoom(this.#waiting.length, waiting, active.filter((job) => job.client === client).length, perClient)
    const bytes = bytesOf(request)
    if (active.reduce((sum, job) => sum + job.bytes, bytes) > imageBytes)
      throw new FluxError('FLUX_BUSY', 'the images of the jobs in the queue take too much memory: try again in a while')
    const { store } = this.#options
    const job = new MemoryJob({ id, request, bytes, client, priority, fingerprint, store }, (job) => this.#leave(job))
    this.#jobs.set(id, job)
    const behind = this.#waiting.findIndex((other) => other.priority < priority)
    this.#waiting.splice(behind < 0 ? this.#waiting.length : behind, 0, job)
    this.#proceed()
    return job
  }

  async get(id: string): Promise<QueuedJob | undefined> {
    return this.#jobs.get(id)
  }

  async counts(): Promise<QueueCounts> {
    return { waiting: this.#waiting.length, running: this.#running ? 1 : 0, workers: 1 }
  }

  async models(): Promise<ModelState[]> {
    const { loaded } = this.#host
    return [...(await this.#host.catalogue.models()).values()].map(({ description }) => ({
      ...description,
      loaded: loaded.includes(description.name),
    }))
  }

  loras(): Promise<string[]> {
    return this.#host.catalogue.names('lora')
  }

  upscalers(): Promise<string[]> {
    return this.#host.catalogue.names('upscaler')
  }

  devices(): ReturnType<ImageQueue['devices']> {
    return this.#host.devices()
  }

  onEnd(listener: (status: JobStatus) => void): void {
    this.#listeners.push(listener)
  }

  async close(patience: number): Promise<void> {
    this.#closed = true
    const closing = shuttingDown()
    for (const job of this.#waiting) await job.cancel(closing)
    const timer = setTimeout(() => void this.#running?.cancel(closing), patience)
    await this.#ended
    clearTimeout(timer)
    clearInterval(this.#timer)
    await this.#host.close()
  }

  /** A job that was cancelled while it waited. */
  #leave(job: MemoryJob): void {
    if (!this.#waiting.includes(job)) return
    this.#waiting = this.#waiting.filter((other) => other !== job)
    job.append(ending(job.controller.signal))
    this.#end(job)
    this.#tellPositions()
  }

  /** Starts the next job if none runs. */
  #proceed(): void {
    if (!this.#running) {
      this.#running = this.#waiting.shift()
      if (this.#running) this.#ended = this.#run(this.#running)
    }
    this.#tellPositions()
  }

  #tellPositions(): void {
    for (const [i, job] of this.#waiting.entries()) job.wait(i + (this.#running ? 1 : 0))
  }

  async #run(job: MemoryJob): Promise<void> {
    const { store, onError } = this.#options
    const { signal } = job.controller
    try {
      const events = this.#host.draw(job.request!, signal)
      for await (const event of jobEvents(events, (index, image) => store.put(imageKey(job.id, index), image)))
        job.append(event)
    } catch (error) {
      if (signal.aborted) job.append(ending(signal))
      else {
        if (!(error instanceof FluxError)) onError(error, job.id)
        job.append(failure(error))
      }
    }
    this.#running = undefined
    this.#end(job)
    this.#proceed()
  }

  #end(job: MemoryJob): void {
    job.log.end()
    job.request = undefined
    setTimeout(() => job.log.forgetPreviews(), PREVIEWS_AFTER_END).unref()
    for (const listener of this.#listeners) listener(job.now)
    job.endedAt = Date.now()
    this.#over.push(job)
    for (const old of this.#over.splice(0, this.#over.length - MOST_KEPT)) void this.#forget(old)
  }

  #forgetOld(): void {
    const since = Date.now() - this.#options.keep
    while (this.#over[0] && this.#over[0].endedAt < since) void this.#forget(this.#over.shift()!)
  }

  async #forget(job: MemoryJob): Promise<void> {
    if (!this.#jobs.delete(job.id)) return
    for (const { index } of job.now.images) await this.#options.store.delete(imageKey(job.id, index))
  }
}

/** The last event of a job that was ended from outside. */
function ending({ reason }: AbortSignal): NewJobEvent {
  return reason instanceof FluxError ? failure(reason) : { type: 'cancelled', message: 'the job was cancelled' }
}

interface NewJob extends Required<AddOptions> {
  request: JobRequest
  /** of its images */
  bytes: number
  store: ImageStore
}

class MemoryJob implements QueuedJob {
  readonly id: string
  /** until it is over */
  request: JobRequest | undefined
  readonly bytes: number
  readonly client: string
  readonly priority: number
  readonly fingerprint: string
  readonly controller = new AbortController()
  /** in milliseconds since 1970 */
  endedAt = 0
  readonly log = new EventLog<JobEvent & { preview?: { data: string } }>(({ preview }) => preview?.data.length ?? 0)
  now: JobStatus
  readonly #store: ImageStore
  readonly #leave: (job: MemoryJob) => void

  /** @param leave called when it is cancelled */
  constructor({ id, request, bytes, client, priority, fingerprint, store }: NewJob, leave: (job: MemoryJob) => void) {
    this.id = id
    this.request = request
    this.bytes = bytes
    this.client = client
    this.priority = priority
    this.fingerprint = fingerprint
    this.now = newStatus(id, request.model, request.options.count ?? 1)
    this.#store = store
    this.#leave = leave
  }

  async status(): Promise<JobStatus> {
    return this.now
  }

  events(after = 0, signal?: AbortSignal): AsyncGenerator<JobEvent, void, undefined> {
    return this.log.read(after, signal)
  }

  async image(index: number): Promise<Buffer | undefined> {
    return this.#store.get(imageKey(this.id, index))
  }

  /** @param reason an error that the job then fails with */
  async cancel(reason?: FluxError): Promise<void> {
    this.controller.abort(reason)
    this.#leave(this)
  }

  append(event: NewJobEvent): void {
    const numbered = { ...event, id: this.log.length + 1 } as JobEvent
    this.log.append(numbered)
    this.now = statusAfter(this.now, numbered)
  }

  wait(position: number): void {
    if (this.log.length === 0 || this.now.position !== position) this.append({ type: 'waiting', position })
  }
}

const bytesOf = ({ options }: JobRequest): number =>
  detachImages(options).images.reduce((sum, { bytes }) => sum + bytes.length, 0)
