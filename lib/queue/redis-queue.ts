import { randomInt, randomUUID } from 'node:crypto'
import type { Queue } from 'bullmq'
import { FluxError } from '../errors.js'
import { badOption, requireWhole } from '../options/checks.js'
import { MAX_COUNT } from '../pipeline/generate-options.js'
import { imageKey, type ImageStore } from './image-store.js'
import { isOver, newStatus } from './job-status.js'
import type { AddOptions, ImageQueue, JobRequest, JobStatus, ModelState, QueueCounts, QueuedJob } from './queue.js'
import { RedisConnection } from './redis/connection.js'
import { bullId, clientKey, queueName } from './redis/keys.js'
import { News } from './redis/news.js'
import type { RedisPlace } from './redis/place.js'
import { RedisJob, type JobContext } from './redis/redis-job.js'
import { Roster } from './redis/roster.js'
import { Upkeep } from './redis/upkeep.js'
import { requireRoom, sameRequest, shuttingDown } from './refusals.js'
import { detachImages, newKeys } from './request-images.js'

export interface RedisQueueOptions extends RedisPlace {
  /** that of the workers as well */
  store: ImageStore
  /** most jobs that wait, of all servers @default 100 */
  waiting?: number
  /** most jobs of one client, waiting and running @default 20 */
  perClient?: number
  /** milliseconds that a job and its images are kept after its end @default one hour */
  keep?: number
  /** milliseconds after which a job fails whose model no worker offers any more @default ten minutes */
  orphaned?: number
}

/** an answer of Redis has to be there after this time, in milliseconds */
const ANSWER_MS = 3000
/** milliseconds after which a job that was not added completely is forgotten */
const RESERVED_MS = 30_000
/** characters of a request without its images */
const MOST_REQUEST = 2 ** 20
/** entries that BullMQ keeps of its own events, which nobody reads */
const BULL_EVENTS = 100

/**
 * The servers' side of a queue in Redis: adds jobs, follows and cancels them. Workers on any machine carry them out, see
 * `RedisWorker`. Any number of servers share the jobs.
 */
export class RedisQueue implements ImageQueue {
  readonly #connection: RedisConnection
  readonly #options: Required<Omit<RedisQueueOptions, keyof RedisPlace>>
  readonly #roster: Roster
  readonly #context: JobContext
  readonly #upkeep: Upkeep
  readonly #queues = new Map<string, Queue>()
  readonly #listeners: ((status: JobStatus) => void)[] = []
  /** jobs that were added here and have not ended */
  readonly #own = new Set<string>()
  readonly #closing = new AbortController()

  private constructor(
    connection: RedisConnection,
    news: News,
    { store, waiting = 100, perClient = 20, keep = 3_600_000, orphaned = 600_000 }: RedisQueueOptions,
  ) {
    this.#connection = connection
    this.#options = { store, waiting, perClient, keep, orphaned }
    this.#roster = new Roster(connection)
    this.#context = {
      ...{ connection, news, store, closed: this.#closing.signal },
      answered: (answer) => answered(answer, connection.address),
      remove: async (model, id) => void (await this.#answered(this.#queue(model).remove(bullId(id)))),
    }
    this.#upkeep = new Upkeep(connection, store, async () => {
      await this.#endOrphans()
      await this.#reportEnd([...this.#own])
    })
  }

  /**
   * @throws {FluxError} FLUX_NOT_FOUND if there is no Redis; FLUX_UNSUPPORTED without the packages bullmq and ioredis, or
   *   for an old Redis; FLUX_BAD_OPTION for an address that is none, or a wrong password
   */
  static async connect(options: RedisQueueOptions): Promise<RedisQueue> {
    const connection = await RedisConnection.connect(options)
    let queue: RedisQueue | undefined
    const news = await News.listen(connection, (id) => {
      if (queue && (id === undefined || queue.#own.has(id))) void queue.#reportEnd(id ? [id] : [...queue.#own])
    })
    queue = new RedisQueue(connection, news, options)
    return queue
  }

  async add(
    request: JobRequest,
    { client, id = randomUUID(), priority = 0, fingerprint = '' }: AddOptions,
  ): Promise<QueuedJob> {
    this.#requireOpen()
    if (!ID.test(id)) throw badOption('id', id, 'up to 200 letters, digits, -, . and _')
    requireWhole('priority', priority, -100, 100)
    const { count = 1 } = request.options
    requireWhole('count', count, 1, MAX_COUNT)
    await this.#requireOffered(request)
    const { store, waiting, perClient, keep } = this.#options
    const { client: redis, keys } = this.#connection
    const { prefix } = keys
    const job = new RedisJob(id, this.#context)
    const found = (room: [known: string | null, waiting: number, ofClient: number]): QueuedJob | undefined => {
      const [known, waits, ofClient] = room
      if (known !== null) return sameRequest(job, known === fingerprint)
      requireRoom(waits, waiting, ofClient, perClient)
      return undefined
    }
    const known = found(await this.#answered(redis.fluxRoom(prefix, id, clientKey(client)))) // before images are stored
    if (known) return known
    const { options, images } = detachImages(seeded(request.options))
    const stored = newKeys(images)
    const inputs = stored.map(({ key }) => key)
    const text = JSON.stringify({ request: { ...request, options }, images: stored })
    if (text.length > MOST_REQUEST)
      throw new FluxError('FLUX_BAD_OPTION', `the request has ${text.length} characters without its images: shorten it`)
    let isAdded = false
    try {
      for (const [i, { bytes }] of images.entries()) await store.put(inputs[i]!, bufferOf(bytes))
      const results = Array.from({ length: count }, (_, index) => imageKey(id, index))
      const fields = {
        ...{ fingerprint, request: text, inputs: JSON.stringify(inputs), keep, images: '[]' },
        status: JSON.stringify(newStatus(id, request.model, count)),
      }
      const queue = this.#queue(request.model)
      const room = await this.#answered(
        redis.fluxReserve(
          ...([prefix, id, clientKey(client), priority, waiting, perClient, RESERVED_MS, queue.name] as const),
          ...[JSON.stringify(results), ...Object.entries(fields).flat()],
        ),
      )
      const other = found(room)
      if (other) return other
      isAdded = true
      this.#own.add(id)
      // BullMQ's priorities are positive, and lower is earlier
      await this.#answered(queue.add('draw', {}, { jobId: bullId(id), priority: 101 - priority }))
      await this.#answered(redis.fluxConfirm(prefix, id, queue.name))
      return job
    } finally {
      if (!isAdded) for (const key of inputs) void store.delete(key).catch(() => {}) // the store deletes what is old
    }
  }

  async get(id: string): Promise<QueuedJob | undefined> {
    if (!ID.test(id)) return undefined
    const job = new RedisJob(id, this.#context)
    return (await job.find()) && job
  }

  async counts(): Promise<QueueCounts> {
    const { client, keys } = this.#connection
    const [waiting, running, workers] = await this.#answered(
      Promise.all([client.zcard(keys.waiting), client.scard(keys.running), this.#roster.count()]),
    )
    return { waiting, running, workers }
  }

  async models(): Promise<ModelState[]> {
    const [offers, states] = await this.#answered(Promise.all([this.#roster.offers(), this.#roster.states()]))
    const models = new Map<string, ModelState>()
    for (const model of offers.flatMap(({ models }) => models)) {
      const known = models.get(model.name)
      if (known && known.changedAt >= model.changedAt) continue
      models.set(model.name, { ...model, loaded: states.some(({ loaded }) => loaded.includes(model.name)) })
    }
    return [...models.values()]
  }

  async loras(): Promise<string[]> {
    const offers = await this.#answered(this.#roster.offers())
    return [...new Set(offers.flatMap(({ loras }) => loras))].sort()
  }

  async upscalers(): Promise<string[]> {
    const offers = await this.#answered(this.#roster.offers())
    return [...new Set(offers.flatMap(({ upscalers }) => upscalers))].sort()
  }

  async devices(): ReturnType<ImageQueue['devices']> {
    const states = await this.#answered(this.#roster.states())
    const named = states.flatMap(({ host, devices }) =>
      devices.map(({ name, ...memory }) => [`${host}/${name}`, { name: `${host}/${name}`, ...memory }] as const),
    )
    return [...new Map(named).values()]
  }

  onEnd(listener: (status: JobStatus) => void): void {
    this.#listeners.push(listener)
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort(shuttingDown())
    this.#upkeep.stop()
    await Promise.all([...this.#queues.values()].map((queue) => queue.close())).catch(() => {}) // Redis is away
    this.#connection.close()
  }

  #requireOpen(): void {
    if (this.#closing.signal.aborted) throw shuttingDown()
  }

  #answered<T>(answer: Promise<T>): Promise<T> {
    return this.#context.answered(answer)
  }

  #queue(model: string): Queue {
    const known = this.#queues.get(model)
    if (known) return known
    const { client, bullmq, keys } = this.#connection
    const queue = new bullmq.Queue(queueName(model), {
      ...{ connection: client, prefix: keys.queues, skipVersionCheck: true },
      streams: { events: { maxLen: BULL_EVENTS } },
      defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
    })
    queue.on('error', () => {}) // of the connection, which is shared
    this.#queues.set(model, queue)
    return queue
  }

  /** Workers check the rest. */
  async #requireOffered(request: JobRequest): Promise<void> {
    if (offersFor(request, await this.#answered(this.#roster.offers())).length > 0) return
    const offers = await this.#answered(this.#roster.offers(true))
    if (offersFor(request, offers).length > 0) return
    const { model, options } = request
    const withModel = offers.filter(({ models }) => models.some(({ name }) => name === model))
    if (withModel.length === 0)
      notOffered(
        'model',
        model,
        offers.flatMap(({ models }) => models.map(({ name }) => name)),
      )
    const known = withModel.flatMap(({ loras }) => loras)
    const missing = loraNames(options).find((name) => !known.includes(name))
    if (missing !== undefined) notOffered('LoRA', missing, known)
    throw new FluxError('FLUX_NOT_FOUND', `no worker has all these LoRAs for the model '${model}': leave some out`)
  }

  async #endOrphans(): Promise<void> {
    const { client, keys } = this.#connection
    for (const id of await client.fluxOrphans(keys.prefix, this.#options.orphaned)) {
      const job = new RedisJob(id, this.#context)
      const model = (await job.find())?.model
      const message = `no worker has offered the model '${model}' for a while: take another one, or try again later`
      await job.end({ type: 'failed', code: 'FLUX_NOT_FOUND', message })
    }
  }

  async #reportEnd(ids: string[]): Promise<void> {
    for (const id of ids) {
      const status = await new RedisJob(id, this.#context).find().catch(() => null)
      if (status === null || (status && !isOver(status))) continue // not now
      if (this.#own.delete(id) && status) for (const listener of this.#listeners) listener(status)
    }
  }
}

/** A job's id is part of keys, in Redis and in the store. */
const ID = /^[\w-][\w.-]{0,199}$/

/** With a seed, so that a second worker draws the same images. */
function seeded(options: JobRequest['options']): JobRequest['options'] {
  return options.seed === undefined ? { ...options, seed: randomInt(2 ** 32) } : options
}

function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength)
}

/** As in the catalogue: without the suffix of the file. */
function loraNames({ loras = [] }: JobRequest['options']): string[] {
  return loras.map(({ path }) => path.replace(/\.(gguf|safetensors|sft|pth)$/i, ''))
}

function offersFor<Offer extends { models: { name: string }[]; loras: string[] }>(
  { model, options }: JobRequest,
  offers: Offer[],
): Offer[] {
  return offers.filter(
    ({ models, loras }) =>
      models.some(({ name }) => name === model) && loraNames(options).every((name) => loras.includes(name)),
  )
}

function notOffered(kind: string, name: string, known: string[]): never {
  const names = [...new Set(known)].sort().slice(0, 20).join(', ')
  const there = names === '' ? `no worker offers any: start one with ggflux worker` : `workers offer ${names}`
  throw new FluxError('FLUX_NOT_FOUND', `there is no ${kind} named '${name.slice(0, 100)}'; ${there}`)
}

/** Settles like `answer`, but not later than is bearable: commands wait for ever while there is no connection. */
async function answered<T>(answer: Promise<T>, address: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new FluxError('FLUX_CLOSED', `Redis at ${address} does not answer: try again in a while`)),
      ANSWER_MS,
    )
  })
  try {
    return await Promise.race([answer, late])
  } catch (error) {
    if (!(error instanceof Error && /\bOOM\b/.test(error.message))) throw error
    throw new FluxError('FLUX_BUSY', `Redis at ${address} has no memory left (maxmemory): try again in a while`)
  } finally {
    clearTimeout(timer)
  }
}
