import { setTimeout as sleep } from 'node:timers/promises'
import { FluxError } from '../../errors.js'
import { untilAborted } from '../../options/abort.js'
import { imageKey, type ImageStore } from '../image-store.js'
import { isLast, isOver, statusAfter } from '../job-status.js'
import type { NewJobEvent } from '../job-events.js'
import type { JobEvent, JobStatus, QueuedJob } from '../queue.js'
import type { RedisConnection } from './connection.js'
import type { News } from './news.js'

/** What the jobs of a queue share. */
export interface JobContext {
  connection: RedisConnection
  news: News
  store: ImageStore
  /** aborted when the queue is closed */
  closed: AbortSignal
  /** rejects when Redis does not answer */
  answered<T>(answer: Promise<T>): Promise<T>
  /** takes a job out of its model's queue */
  remove(model: string, id: string): Promise<void>
}

/** events that are read at once: with previews of 300 kB, 5 MB */
const BATCH = 16
/** milliseconds after which a follower looks for news that it missed */
const MISSED_NEWS_MS = 5000

/** A job in Redis, of any server and any worker. */
export class RedisJob implements QueuedJob {
  readonly id: string
  readonly #context: JobContext

  constructor(id: string, context: JobContext) {
    this.id = id
    this.#context = context
  }

  async status(): Promise<JobStatus> {
    const status = await this.find()
    return status ?? lost(this.id)
  }

  /** undefined if there is no such job */
  async find(): Promise<JobStatus | undefined> {
    const { connection, answered } = this.#context
    const { client, keys } = connection
    const [status, images, lastEvent, position] = await answered(client.fluxStatus(keys.prefix, this.id))
    if (status === null) return undefined
    return {
      ...(JSON.parse(status) as JobStatus),
      images: JSON.parse(images) as JobStatus['images'],
      lastEvent: Number(lastEvent),
      position,
    }
  }

  async *events(after = 0, signal?: AbortSignal): AsyncGenerator<JobEvent, void, undefined> {
    const { closed, news } = this.#context
    const unlessEnded = <T>(promise: Promise<T>) => untilAborted(untilAborted(promise, closed), signal)
    for (let last = after; ; ) {
      const more = news.of(this.id)
      try {
        const { events, state } = await unlessEnded(this.#read(last)) // waits while Redis is away
        for (const event of events) {
          yield event
          if (isLast(event)) return
          last = event.id
        }
        if (events.length > 0) continue
        if (state === 'over') return
        if (state === null) {
          yield { id: last + 1, ...GONE }
          return
        }
        const timer = new AbortController()
        const missed = sleep(MISSED_NEWS_MS, undefined, { signal: timer.signal, ref: false }).catch(() => {})
        await unlessEnded(Promise.race([more.arrived, missed])).finally(() => timer.abort())
      } finally {
        more.ignore()
      }
    }
  }

  async image(index: number): Promise<Buffer | undefined> {
    return this.#context.store.get(imageKey(this.id, index))
  }

  async cancel(): Promise<void> {
    await this.end({ type: 'cancelled', message: 'the job was cancelled' })
  }

  /** Ends it, unless a worker has it; the event `cancelled` reaches a worker that has it. */
  async end(event: NewJobEvent & { type: 'cancelled' | 'failed' }): Promise<void> {
    const { connection, answered, remove } = this.#context
    const status = await this.find()
    if (!status || isOver(status)) return
    const after = statusAfter(status, { id: 0, ...event })
    const isCancelled = event.type === 'cancelled' ? 1 : 0
    const { client, keys } = connection
    const isEnded = await answered(
      client.fluxEndFree(keys.prefix, this.id, JSON.stringify(event), JSON.stringify(after), isCancelled),
    )
    if (isEnded) await remove(status.model, this.id)
  }

  async #read(after: number): Promise<{ events: JobEvent[]; state: string | null }> {
    const { client, keys } = this.#context.connection
    const [state, entries] = await client.fluxRead(keys.prefix, this.id, after, BATCH)
    const read = entries.map(([id, [, event = '', , hasPreview]]) => {
      const number = parseInt(id, 10)
      return { event: { ...(JSON.parse(event) as JobEvent), id: number }, hasPreview: hasPreview === '1' }
    })
    const shown = read.flatMap(({ event, hasPreview }) => (hasPreview ? [event.id] : []))
    const files = shown.length > 0 ? await client.hmgetBuffer(keys.previews(this.id), ...shown.map(String)) : []
    const events = read.map(({ event }) => {
      if (event.type !== 'step' || !event.preview) return event
      const { preview, ...rest } = event
      const file = files[shown.indexOf(event.id)]
      return file ? { ...rest, preview: { ...preview, data: file.toString('base64') } } : rest
    })
    return { events, state }
  }
}

const GONE = {
  type: 'failed',
  code: 'INTERNAL',
  message: 'Redis has lost the job, which happens when it is restarted without its data: send the request again',
} as const

function lost(id: string): never {
  throw new FluxError('FLUX_NOT_FOUND', `the job ${id} is not in Redis any more: send the request again`)
}
