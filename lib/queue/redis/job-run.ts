import type { Job, Worker } from 'bullmq'
import { FluxError } from '../../errors.js'
import { imageKey, type ImageStore } from '../image-store.js'
import { failure, jobEvents, type NewJobEvent } from '../job-events.js'
import { isLast, statusAfter } from '../job-status.js'
import type { ModelHost } from '../model-host.js'
import type { JobEvent, JobRequest, JobStatus } from '../queue.js'
import { attachImages, readImages, type StoredImage } from '../request-images.js'
import type { RedisConnection } from './connection.js'
import type { JobReport } from './job-report.js'
import { PreviewBudget } from './preview-budget.js'
import type { Begun } from './scripts.js'

/** A job that a worker has taken from BullMQ. */
export interface TakenJob {
  id: string
  job: Job
  /** of BullMQ's lock */
  token: string
  /** of the job's queue */
  worker: Worker
}

interface RunOptions {
  connection: RedisConnection
  store: ImageStore
  /** milliseconds for which the lock is taken */
  lease: number
  /** receives faults of ours */
  onError: (error: unknown, id: string) => void
}

type Reason = 'cancelled' | 'lost' | 'returned'

/** workers that may die with a job, and child processes that may crash with it, until it fails */
const [MOST_DEATHS, MOST_CRASHES] = [1, 1]

/** Carries out one job, as long as this worker has its lock. */
export class JobRun {
  readonly id: string
  readonly #taken: TakenJob
  readonly #options: RunOptions
  readonly #controller = new AbortController()
  readonly #previews = new PreviewBudget()
  readonly #begunAt = Date.now()
  #status!: JobStatus
  #isRenewing = false

  constructor(taken: TakenJob, options: RunOptions) {
    this.id = taken.id
    this.#taken = taken
    this.#options = options
  }

  abort(reason: Reason): void {
    this.#controller.abort(reason)
  }

  /** @returns undefined if the job was over */
  async carryOut(host: ModelHost): Promise<JobReport | undefined> {
    const { client, keys } = this.#options.connection
    const { lease } = this.#options
    const renewal = setInterval(() => void this.#renew(), lease / 3)
    try {
      const begun = await client.fluxBegin(keys.prefix, this.id, this.#taken.token)
      if (isNone(begun)) {
        await this.#leave()
        return undefined
      }
      const [, request, , status, images, lastEvent, crashes, cancelled, waited] = begun
      this.#status = { ...JSON.parse(status), images: JSON.parse(images), lastEvent: Number(lastEvent) }
      if (cancelled !== null) this.abort('cancelled')
      const outcome = await this.#draw(host, JSON.parse(request), Number(crashes))
      if (outcome !== 'lost' && outcome !== 'returned') await this.#leave()
      const { model, error } = this.#status
      const took = Date.now() - this.#begunAt
      return { id: this.id, model, outcome, ...(outcome === 'failed' ? error : {}), waited, took }
    } finally {
      clearInterval(renewal)
    }
  }

  async #draw(
    host: ModelHost,
    { request, images }: { request: JobRequest; images: StoredImage[] },
    crashes: number,
  ): Promise<JobReport['outcome']> {
    const { signal } = this.#controller
    const { connection, store, onError } = this.#options
    if (this.#taken.job.stalledCounter > MOST_DEATHS && !signal.aborted) {
      const message =
        'the worker that carried it out died, and so did a second one: the request may be more than they can do'
      return this.#emit({ type: 'failed', code: 'FLUX_CRASHED', message })
    }
    try {
      signal.throwIfAborted()
      const options = attachImages(request.options, await readImages(images, store))
      const events = host.draw({ ...request, options }, signal)
      const keep = (index: number, image: Buffer) => store.put(imageKey(this.id, index), image)
      for await (const event of jobEvents(events, keep)) await this.#emit(event)
      return signal.reason === 'lost' ? 'lost' : 'completed'
    } catch (error) {
      if (signal.aborted) return this.#endAborted(signal.reason as Reason)
      if (error instanceof FluxError && error.code === 'FLUX_CRASHED' && crashes < MOST_CRASHES) {
        const { client, keys } = connection
        await client.hincrby(keys.job(this.id), 'crashes', 1)
        return this.#draw(host, { request, images }, crashes + 1)
      }
      if (!(error instanceof FluxError)) onError(error, this.id)
      return this.#emit(failure(error))
    }
  }

  async #endAborted(reason: Reason): Promise<JobReport['outcome']> {
    if (reason === 'cancelled') return this.#emit({ type: 'cancelled', message: 'the job was cancelled' })
    if (reason === 'returned') await this.#handBack()
    return reason
  }

  /** @returns how the job ended, if this is its last event */
  async #emit(event: NewJobEvent): Promise<JobReport['outcome']> {
    const { client, keys } = this.#options.connection
    const number = this.#status.lastEvent + 1
    const numbered = { ...event, id: number } as JobEvent
    this.#status = statusAfter(this.#status, numbered)
    const preview = event.type === 'step' ? event.preview : undefined
    const file = preview ? Buffer.from(preview.data, 'base64') : ''
    const text = preview ? { ...event, preview: { ...preview, data: '' } } : event
    const { images, ...status } = this.#status
    const answer = await client.fluxAppend(
      ...([keys.prefix, this.id, this.#taken.token, number, JSON.stringify(text), JSON.stringify(status)] as const),
      event.type === 'image' || event.type === 'started' ? JSON.stringify(images) : '',
      isLast(numbered) ? 1 : 0,
      file,
      ...(file === '' ? [] : this.#previews.add(number, file.length)),
    )
    if (answer === 'lost') this.abort('lost')
    else if (answer === 'cancelled' && !isLast(numbered)) this.abort('cancelled')
    return answer === 'lost' ? 'lost' : (event.type as JobReport['outcome'])
  }

  /** A lock that cannot be renewed belongs to another worker, which has begun anew. */
  async #renew(): Promise<void> {
    if (this.#isRenewing) return // Redis is away
    this.#isRenewing = true
    try {
      const { lease, connection } = this.#options
      const { client, keys } = connection
      const { job, token, worker } = this.#taken
      const lost = await worker.extendJobLocks([job.id!], [token], lease)
      if (lost.length > 0 && !(await client.fluxRelock(keys.prefix, this.id, token, worker.name, lease)))
        this.abort('lost')
      // a message about it may have been missed
      if ((await client.hget(keys.job(this.id), 'cancelled')) !== null) this.abort('cancelled')
    } catch {
      // tried again soon
    } finally {
      this.#isRenewing = false
    }
  }

  /** BullMQ forgets the job. If that fails, another worker takes it and finds that it is over. */
  async #leave(): Promise<void> {
    const { job, token } = this.#taken
    await job.moveToCompleted(null, token, false).catch((error: unknown) => this.#options.onError(error, this.id))
  }

  async #handBack(): Promise<void> {
    const { client, keys } = this.#options.connection
    const { job, token, worker } = this.#taken
    if (!(await client.fluxRelease(keys.prefix, this.id, token))) return
    await job.moveToWait(token)
    await client.publish(keys.work, worker.name)
  }
}

function isNone(begun: Begun): begun is ['gone' | 'over'] {
  return begun[0] === 'gone' || begun[0] === 'over'
}
