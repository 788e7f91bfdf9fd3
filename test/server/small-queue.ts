import { MemoryQueue } from '../../lib/queue/memory-queue.js'
import { ModelCatalogue, type CatalogueOptions } from '../../lib/queue/model-catalogue.js'
import { ModelHost } from '../../lib/queue/model-host.js'
import { onTestBackend } from '../support/backend.js'
import type { AddOptions, ImageQueue, JobRequest, JobStatus, QueuedJob } from '../../lib/queue/queue.js'

/**
 * A queue with nothing but the interface, through which only plain data passes, as if its workers were on other machines. It
 * draws images at an eighth of their size: those that clients ask for take the tiny model a minute.
 */
export class SmallQueue implements ImageQueue {
  /** what was requested, before it was made smaller */
  readonly requests: JobRequest[] = []
  readonly #queue: MemoryQueue

  constructor(options: CatalogueOptions = {}) {
    const catalogue = new ModelCatalogue({ cached: false, ...options })
    this.#queue = new MemoryQueue(new ModelHost(catalogue, { load: { ...onTestBackend, isolate: false } }))
  }

  get last(): JobRequest {
    return this.requests.at(-1)!
  }

  async add(request: JobRequest, options: AddOptions): Promise<QueuedJob> {
    this.requests.push(request)
    const { width, height } = request.options
    const small = {
      ...(width === undefined ? {} : { width: smaller(width) }),
      ...(height === undefined ? {} : { height: smaller(height) }),
    }
    return outside(
      await this.#queue.add(structuredClone({ ...request, options: { ...request.options, ...small } }), options),
    )
  }

  async get(id: string): Promise<QueuedJob | undefined> {
    const job = await this.#queue.get(id)
    return job && outside(job)
  }

  counts = async () => structuredClone(await this.#queue.counts())
  models = async () => structuredClone(await this.#queue.models())
  loras = () => this.#queue.loras()
  upscalers = () => this.#queue.upscalers()
  devices = async () => structuredClone(await this.#queue.devices())
  close = (patience: number) => this.#queue.close(patience)

  onEnd(listener: (status: JobStatus) => void): void {
    this.#queue.onEnd((status) => listener(structuredClone(status)))
  }
}

/** What is no multiple of 16 stays, and is refused. */
export const smaller = (side: number): number => (side % 16 === 0 ? Math.max(64, 16 * Math.round(side / 8 / 16)) : side)

function outside(job: QueuedJob): QueuedJob {
  return {
    id: job.id,
    status: async () => structuredClone(await job.status()),
    async *events(after, signal) {
      for await (const event of job.events(after, signal)) yield structuredClone(event)
    },
    image: (index) => job.image(index),
    cancel: () => job.cancel(),
  }
}
