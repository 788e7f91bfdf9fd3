import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from 'bullmq'
import type { ImageStore } from './image-store.js'
import type { ModelHost } from './model-host.js'
import { chooseModel, type Head } from './redis/choose-model.js'
import { RedisConnection } from './redis/connection.js'
import type { JobReport } from './redis/job-report.js'
import { JobRun, type TakenJob } from './redis/job-run.js'
import { queueName } from './redis/keys.js'
import type { RedisPlace } from './redis/place.js'
import { ROSTER_PATIENCE_MS, type WorkerOffer, type WorkerState } from './redis/roster.js'
import { Upkeep } from './redis/upkeep.js'

export interface RedisWorkerOptions extends RedisPlace {
  /** that of the servers as well */
  store: ImageStore
  /**
   * milliseconds without a sign of life after which a worker counts as dead. Another one takes its job over within twice
   * this time @default 6000
   */
  lease?: number
  /** called after each job */
  onJob?: (report: JobReport) => void
  /** receives faults of ours, and of Redis */
  onError?: (error: unknown, id?: string) => void
}

/** milliseconds after which an idle worker looks for jobs without being woken */
const IDLE_MS = 5000
/** milliseconds by which a worker lets one go first that has the model in memory */
const HEAD_START_MS = 50
/** milliseconds before a next try, after a failure and when another worker was faster */
const [AFTER_FAILURE_MS, AFTER_LOSS_MS] = [1000, 50]

/** Takes jobs from a queue in Redis and carries them out, one at a time. `RedisQueue` adds them. */
export class RedisWorker {
  readonly #id = randomUUID()
  readonly #host: ModelHost
  readonly #connection: RedisConnection
  readonly #options: Required<Omit<RedisWorkerOptions, keyof RedisPlace>>
  readonly #upkeep: Upkeep
  readonly #heartbeat: NodeJS.Timeout
  /** BullMQ's workers, by model */
  readonly #workers = new Map<string, Worker>()
  #announcing: Promise<void> | undefined
  /** something has changed since */
  #isAnnouncedLate = false
  #offer = ''
  #isAsking = false
  #devices: WorkerState['devices'] = []
  #turn = { since: Date.now(), jobs: 0 }
  #run: JobRun | undefined
  /** the one that the job in `#run` came from */
  #busy: Worker | undefined
  #wake = () => {}
  #isClosing = false
  #ended: Promise<void> = Promise.resolve()

  private constructor(
    host: ModelHost,
    connection: RedisConnection,
    { store, lease = 6000, onJob = () => {}, onError = () => {} }: RedisWorkerOptions,
  ) {
    this.#host = host
    this.#connection = connection
    this.#options = { store, lease, onJob, onError }
    this.#upkeep = new Upkeep(connection, store, async () => {})
    this.#heartbeat = setInterval(() => void this.#announce(), ROSTER_PATIENCE_MS / 3)
  }

  /**
   * Announces the models of `host` and takes jobs for them from now on.
   *
   * @param host belongs to the worker from now on
   * @throws {FluxError} FLUX_NOT_FOUND if there is no Redis; FLUX_UNSUPPORTED without the packages bullmq and ioredis, or
   *   for an old Redis; FLUX_BAD_OPTION for an address that is none, or a wrong password
   */
  static async connect(host: ModelHost, options: RedisWorkerOptions): Promise<RedisWorker> {
    const connection = await RedisConnection.connect(options)
    const worker = new RedisWorker(host, connection, options)
    const { keys, address } = connection
    connection.onOutage(() => {
      if (!worker.#isClosing) worker.#options.onError(new Error(`Redis at ${address} does not answer: waiting for it`))
    })
    await connection.listen([keys.work, keys.cancel], (channel, message) => {
      if (channel === keys.work) worker.#wake()
      else if (message !== '' && message === worker.#run?.id) worker.#run.abort('cancelled')
    })
    await worker.#announce()
    worker.#ended = worker.#work()
    return worker
  }

  /**
   * Takes no more jobs and waits for the one that runs.
   *
   * @param patience milliseconds after which another worker gets it
   */
  async close(patience: number): Promise<void> {
    this.#isClosing = true
    this.#wake()
    clearInterval(this.#heartbeat)
    this.#upkeep.stop()
    const { client, keys } = this.#connection
    // its offer stays for some seconds, in which it may start again without anyone noticing
    const left = client.del(keys.worker(this.#id)).catch(() => {})
    const timer = setTimeout(() => this.#run?.abort('returned'), patience)
    const latest = Date.now() + patience
    const force = setInterval(() => {
      const isDone = !this.#run || Date.now() > latest
      if (isDone && client.status !== 'ready') this.#connection.close() // commands would wait for Redis for ever
    }, 1000)
    await this.#ended
    await Promise.all([...this.#workers.values()].map((worker) => worker.close()))
    await left
    clearTimeout(timer)
    clearInterval(force)
    this.#connection.close()
    await this.#host.close()
  }

  async #work(): Promise<void> {
    while (!this.#isClosing) {
      const woken = new Promise<void>((resolve) => (this.#wake = resolve))
      try {
        const taken = await this.#take()
        if (taken) await this.#carryOut(taken)
        else await withinMs(woken, IDLE_MS)
      } catch (error) {
        if (this.#isClosing) return
        this.#options.onError(error, this.#run?.id)
        await sleep(AFTER_FAILURE_MS)
      }
    }
  }

  async #take(): Promise<TakenJob | undefined> {
    for (let wasLate = false; !this.#isClosing; ) {
      const chosen = await this.#choose()
      if (!chosen) return undefined
      const isLoaded = this.#host.loaded.includes(chosen.model)
      if (!isLoaded && !wasLate) {
        wasLate = true
        await sleep(HEAD_START_MS)
        continue
      }
      const worker = this.#workers.get(chosen.model)!
      const token = randomUUID()
      const job = await worker.getNextJob(token, { block: false })
      if (job) {
        if (!isLoaded) this.#turn = { since: Date.now(), jobs: 0 }
        this.#turn.jobs++
        return { id: job.id!.slice('job-'.length), job, token, worker }
      }
      await sleep(AFTER_LOSS_MS)
    }
    return undefined
  }

  async #choose(): Promise<Head | undefined> {
    if (this.#workers.size === 0) return undefined
    const { client, keys } = this.#connection
    const queues = new Map([...this.#workers.keys()].map((model) => [queueName(model), model]))
    const found = await client.fluxHeads(keys.prefix, ...queues.keys())
    const heads = found.map(([queue, isBegun, priority, waited]) => ({
      ...{ model: queues.get(queue)!, isBegun: isBegun === 1, priority, waited },
    }))
    const { since, jobs } = this.#turn
    return chooseModel(heads, this.#host.loaded, { lasts: Date.now() - since, jobs })
  }

  async #carryOut(taken: TakenJob): Promise<void> {
    const { store, lease, onJob, onError } = this.#options
    this.#busy = taken.worker
    this.#run = new JobRun(taken, { connection: this.#connection, store, lease, onError })
    if (this.#isClosing) this.#run.abort('returned')
    try {
      const report = await this.#run.carryOut(this.#host)
      if (report) onJob(report)
    } finally {
      this.#run = this.#busy = undefined
    }
    void this.#announce()
    void this.#upkeep.sweep().catch(() => {}) // tried again later
  }

  /** Says what this worker is doing and what it offers. */
  #announce(): Promise<void> {
    if (this.#announcing) this.#isAnnouncedLate = true
    this.#announcing ??= this.#announceNow()
      .catch((error: unknown) => {
        if (!this.#isClosing) this.#options.onError(error)
      })
      .finally(() => {
        this.#announcing = undefined
        if (!this.#isAnnouncedLate || this.#isClosing) return
        this.#isAnnouncedLate = false
        void this.#announce()
      })
    return this.#announcing
  }

  async #announceNow(): Promise<void> {
    void this.#askDevices()
    const { catalogue } = this.#host
    const models = [...(await catalogue.models()).values()].map(({ description }) => description)
    const [loras, upscalers] = [await catalogue.names('lora'), await catalogue.names('upscaler')]
    const offer: WorkerOffer = { models, loras, upscalers }
    if (this.#isClosing) return
    await this.#send({ host: hostname(), loaded: this.#host.loaded, devices: this.#devices }, offer)
    await this.#follow(models.map(({ name }) => name))
  }

  /** The answer may come after the image that is being made. */
  async #askDevices(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    const devices = await this.#host.devices()
    this.#devices = devices.map(({ name, memoryFree, memoryTotal }) => ({ name, memoryFree, memoryTotal }))
    this.#isAsking = false
  }

  async #send(state: WorkerState, offer: WorkerOffer): Promise<void> {
    const { client, keys } = this.#connection
    const text = JSON.stringify(offer)
    const queues = offer.models.map(({ name }) => queueName(name))
    const send = (offer: string) =>
      client.fluxAnnounce(keys.prefix, this.#id, ROSTER_PATIENCE_MS, JSON.stringify(state), offer, ...queues)
    const isKnown = await send(text === this.#offer ? '' : text)
    if (!isKnown) await send(text)
    this.#offer = text
  }

  /** Takes jobs of these models, and of no others. */
  async #follow(models: string[]): Promise<void> {
    const { client, keys, bullmq } = this.#connection
    const { lease, onError } = this.#options
    for (const model of models) {
      if (this.#workers.has(model)) continue
      const worker = new bullmq.Worker(
        queueName(model),
        null,
        {
          ...{ connection: client, prefix: keys.queues, skipVersionCheck: true },
          ...{ lockDuration: lease, stalledInterval: lease / 2, maxStalledCount: 1 },
        },
        // without a connection for each model that waits: a message wakes this worker
        (name, options, more) => bullmq.createRedisBackend(name, options, { ...more, withBlockingConnection: false }),
      )
      worker.on('error', (error) => {
        if (!('syscall' in error)) onError(error) // otherwise of the connection, which all share
      })
      worker.on('stalled', () => void client.publish(keys.work, worker.name).catch(() => {}))
      this.#workers.set(model, worker)
      await worker.startStalledCheckTimer()
    }
    for (const [model, worker] of this.#workers) {
      if (models.includes(model) || worker === this.#busy) continue
      this.#workers.delete(model)
      await worker.close()
    }
    this.#wake()
  }
}

async function withinMs(promise: Promise<void>, milliseconds: number): Promise<void> {
  const timer = new AbortController()
  const late = sleep(milliseconds, undefined, { signal: timer.signal }).catch(() => {})
  await Promise.race([promise, late])
  timer.abort()
}
