import { randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { FolderStore } from '../../../lib/queue/folder-store.js'
import type { JobEvent, JobRequest, QueuedJob } from '../../../lib/queue/queue.js'
import { RedisQueue, type RedisQueueOptions } from '../../../lib/queue/redis-queue.js'
import { RedisWorker, type RedisWorkerOptions } from '../../../lib/queue/redis-worker.js'
import { collect } from '../../support/async.js'
import { FakeHost, type FakeHostOptions } from '../../support/fake-host.js'
import { patience } from '../../support/patience.js'
import { hasRedis, startWorker, TestRedis } from '../../support/redis.js'
import { freePort } from '../../support/rpc-server.js'
import { temporaryFolder } from '../../support/temporary.js'
import { loadTiny } from '../../support/tiny.js'

const client = 'somebody'
const request = (prompt: string, options: Partial<JobRequest['options']> = {}, model = 'tiny'): JobRequest => ({
  ...{ model, options: { prompt, seed: 7, ...options } },
})
/** takes some seconds */
const long = { width: 128, height: 128, steps: 40 }
const types = (events: JobEvent[]) => events.map(({ type }) => type)
const count = (events: JobEvent[], type: JobEvent['type']) => types(events).filter((other) => other === type).length

/** Waits for an event of a job. */
async function until(job: QueuedJob, matches: (event: JobEvent) => boolean, after = 0): Promise<JobEvent> {
  for await (const event of job.events(after)) if (matches(event)) return event
  throw new Error('the job is over')
}
const step =
  (least: number) =>
  (event: JobEvent): boolean =>
    event.type === 'step' && event.step >= least

describe.skipIf(!hasRedis)(`a queue in Redis${hasRedis ? '' : ' (there is no redis-server)'}`, () => {
  const folder = temporaryFolder()
  const images = join(folder, 'images')
  let redis: TestRedis
  const cleanUp: (() => Promise<unknown>)[] = []

  beforeAll(async () => {
    redis = await TestRedis.start(folder)
  })
  afterAll(() => redis.stop())
  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end()
  })

  /** A server, which shares a queue with those that have the same prefix. */
  async function serve(prefix: string, options: Partial<RedisQueueOptions> = {}): Promise<RedisQueue> {
    const store = new FolderStore(images)
    const queue = await RedisQueue.connect({ url: redis.url, prefix, store, ...options })
    cleanUp.push(() => queue.close())
    return queue
  }

  /** `ggflux worker` in a process of its own. */
  async function work(prefix: string, options: string[] = []) {
    const worker = await startWorker(redis.url, images, ['--prefix', prefix, '--lease', '1', ...options])
    cleanUp.push(() => worker.signal('SIGKILL'))
    return worker
  }

  /** A worker in this process whose models are fakes. */
  async function pretend(prefix: string, options: FakeHostOptions = {}, more: Partial<RedisWorkerOptions> = {}) {
    const fake = new FakeHost(options)
    const store = new FolderStore(images)
    const worker = await RedisWorker.connect(fake.host, { url: redis.url, prefix, store, lease: 600, ...more })
    cleanUp.push(() => worker.close(0))
    return { fake, worker }
  }

  const newPrefix = () => `test-${randomUUID().slice(0, 8)}`

  test('jobs are carried out in other processes: events, previews and the image arrive at every server', async () => {
    const prefix = newPrefix()
    const [a, b] = await Promise.all([serve(prefix), serve(prefix)])
    const worker = await work(prefix)
    const job = await a.add(request('a red circle', { preview: { every: 1 } }), { client })
    const seenByB = (await b.get(job.id))!
    const [first, second] = await Promise.all([collect(job.events()), collect(seenByB.events())])
    expect(second).toEqual(first)
    expect(types(first).at(-1)).toBe('completed')
    expect(first.filter((event) => event.type === 'step' && event.preview)).toHaveLength(8)
    expect(await seenByB.status()).toEqual(await job.status())
    const pipe = await loadTiny()
    const image = await pipe.generate({ prompt: 'a red circle', seed: 7 })
    await pipe.close()
    expect(Buffer.compare((await seenByB.image(0))!, image)).toBe(0)
    expect(worker.log).toMatchObject([{ id: job.id, model: 'tiny', outcome: 'completed' }])
    expect(JSON.stringify(worker.log)).not.toContain('red circle')
    expect(worker.said()).toMatch(/^offering .*tiny/m)
  })

  test('a job is cancelled from another server, waiting or running', async () => {
    const prefix = newPrefix()
    const [a, b] = await Promise.all([serve(prefix), serve(prefix)])
    const worker = await work(prefix)
    const running = await a.add(request('a', { ...long, steps: 1000 }), { client })
    const waiting = await a.add(request('b'), { client })
    await until(running, step(1))
    await (await b.get(waiting.id))!.cancel()
    expect(await redis.client.exists(`${prefix}:queue:tiny:job-${waiting.id}`)).toBe(0)
    expect(types(await collect(waiting.events()))).toEqual(['waiting', 'cancelled'])
    const start = Date.now()
    await (await b.get(running.id))!.cancel()
    const events = await collect(running.events())
    expect(types(events).at(-1)).toBe('cancelled')
    expect(Date.now() - start).toBeLessThan(3000 * patience)
    await expect.poll(() => worker.log).toMatchObject([{ id: running.id, outcome: 'cancelled' }])
    expect(await b.counts()).toEqual({ waiting: 0, running: 0, workers: 1 })
    // nothing of them is left in BullMQ's queue
    expect(await redis.client.keys(`${prefix}:queue:tiny:job-*`)).toEqual([])
  })

  test('a cancel whose message is lost is noticed at the next event', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const { fake } = await pretend(prefix, { isHeld: true }, { lease: 60_000 })
    const job = await server.add(request('a', { steps: 50 }), { client })
    await until(job, ({ type }) => type === 'stage')
    await redis.client.hset(`${prefix}:job:${job.id}`, 'cancelled', 1)
    await sleep(50)
    await fake.go()
    expect(types(await collect(job.events())).at(-1)).toBe('cancelled')
    expect((await job.status()).step).toBeLessThan(3)
  }, 10_000)

  test('a cancel reaches a worker that has nothing to say', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    await pretend(prefix, { isHeld: true }, { lease: 60_000 })
    const job = await server.add(request('a'), { client })
    await until(job, ({ type }) => type === 'stage')
    await job.cancel()
    expect(types(await collect(job.events())).at(-1)).toBe('cancelled')
  }, 10_000)

  test('a second attempt has the seed of the first', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const { fake } = await pretend(prefix)
    const { prompt } = request('crash once').options
    await collect((await server.add({ model: 'tiny', options: { prompt } }, { client })).events())
    const seeds = fake.requests.map(({ options }) => options.seed)
    expect(seeds).toEqual([expect.any(Number), seeds[0]])
  })

  test('a worker that is killed has its job taken over once, and the image is the same', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const [first, second] = await Promise.all([work(prefix), work(prefix)])
    const job = await server.add(request('a red circle', { ...long, seed: undefined } as never), { client })
    await until(job, step(10))
    const before = (await job.status()).lastEvent
    // only one of them has a child process that computes
    const [victim, other] = first.childPid() === undefined ? [second, first] : [first, second]
    const killed = Date.now()
    await victim.signal('SIGKILL')
    await until(job, ({ type }) => type === 'started', before)
    const takeover = Date.now() - killed
    const events = await collect(job.events())
    expect(events.map(({ id }) => id)).toEqual(events.map((_, i) => i + 1))
    expect([count(events, 'started'), count(events, 'image'), count(events, 'completed')]).toEqual([2, 1, 1])
    expect(takeover).toBeLessThan(2 * 1000 * patience + 1000)
    expect(await job.status()).toMatchObject({ state: 'completed', images: [{}] })
    expect(victim.log).toEqual([])
    await expect.poll(() => other.log).toMatchObject([{ id: job.id, outcome: 'completed' }])
    // the seed was chosen when the job was added
    const { seed } = (await job.status()).images[0]!
    const pipe = await loadTiny({ threads: 1 })
    const image = await pipe.generate({ prompt: 'a red circle', ...long, seed })
    await pipe.close()
    expect(Buffer.compare((await job.image(0))!, image)).toBe(0)
    console.log(`taken over after ${takeover} ms with a lease of 1 s`)
  })

  test('a job with which two workers died fails', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const job = await (async () => {
      const first = await work(prefix)
      const job = await server.add(request('a red circle', long), { client })
      await until(job, step(2))
      await first.signal('SIGKILL')
      return job
    })()
    const second = await work(prefix)
    const { id } = await until(job, ({ type }) => type === 'started', (await job.status()).lastEvent)
    await until(job, step(2), id)
    await second.signal('SIGKILL')
    const third = await work(prefix)
    const events = await collect(job.events())
    expect(count(events, 'started')).toBe(2)
    expect(events.at(-1)).toMatchObject({ type: 'failed', code: 'FLUX_CRASHED' })
    await expect.poll(() => third.log).toMatchObject([{ id: job.id, outcome: 'failed', code: 'FLUX_CRASHED' }])
    expect(await server.counts()).toMatchObject({ waiting: 0, running: 0 })
  })

  test('a crash of the process that computes is tried once more', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const worker = await work(prefix)
    const job = await server.add(request('a red circle', { ...long, steps: 20 }), { client })
    const crash = async (job: QueuedJob, after: number) => {
      const { id } = await until(job, step(3), after)
      process.kill(worker.childPid()!, 'SIGKILL')
      return id
    }
    await crash(job, 0)
    expect(types(await collect(job.events())).filter((type) => type === 'started')).toHaveLength(2)
    expect(await job.status()).toMatchObject({ state: 'completed' })

    const other = await server.add(request('a blue circle', long), { client })
    const id = await crash(other, 0)
    await crash(other, (await until(other, ({ type }) => type === 'started', id)).id)
    const events = await collect(other.events())
    expect(count(events, 'started')).toBe(2)
    expect(events.at(-1)).toMatchObject({ type: 'failed', code: 'FLUX_CRASHED' })
  })

  test('a worker that is stopped finishes its job, or hands it back', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const first = await work(prefix, ['--patience', '60'])
    const job = await server.add(request('a', { ...long, steps: 20 }), { client })
    const waiting = await server.add(request('b'), { client })
    await until(job, step(2))
    expect(await first.signal('SIGTERM')).toBe(0)
    expect(first.log).toMatchObject([{ id: job.id, outcome: 'completed' }])
    expect(await waiting.status()).toMatchObject({ state: 'waiting' })
    expect(await server.counts()).toMatchObject({ workers: 0, waiting: 1 })

    const second = await work(prefix, ['--patience', '0'])
    await collect(waiting.events())
    const returned = await server.add(request('c', long), { client })
    const { id } = await until(returned, step(2))
    expect(await second.signal('SIGTERM')).toBe(0)
    expect(second.log.at(-1)).toMatchObject({ id: returned.id, outcome: 'returned' })
    // the models that it had are still offered, so nobody notices a restart
    const { fake } = await pretend(prefix, { isHeld: true })
    await until(returned, ({ type }) => type === 'stage', id)
    expect(fake.begun).toEqual(['c'])
    // BullMQ counts no death
    expect(await redis.client.hget(`${prefix}:queue:tiny:job-${returned.id}`, 'stc')).toBeNull()
  })

  test('a worker that was silent for too long gives its job up', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const reports: unknown[] = []
    const { fake } = await pretend(prefix, { isHeld: true }, { onJob: (report) => reports.push(report) })
    const job = await server.add(request('a'), { client })
    await until(job, ({ type }) => type === 'stage')
    // as if another worker had begun it
    await redis.client.hset(`${prefix}:job:${job.id}`, 'owner', 'another')
    await redis.client.set(`${prefix}:queue:tiny:job-${job.id}:lock`, 'another')
    await expect.poll(() => reports).toMatchObject([{ id: job.id, outcome: 'lost' }])
    expect(await job.status()).toMatchObject({ state: 'running', step: 0 })
    expect(fake.begun).toHaveLength(1)
  })

  test('what a worker writes of a job that another one has does not count', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const reports: unknown[] = []
    const onJob = (report: unknown) => reports.push(report)
    const { fake } = await pretend(prefix, { isHeld: true }, { lease: 60_000, onJob })
    const job = await server.add(request('a'), { client })
    await until(job, ({ type }) => type === 'stage')
    await redis.client.hset(`${prefix}:job:${job.id}`, 'owner', 'another')
    await fake.go()
    await expect.poll(() => reports).toMatchObject([{ id: job.id, outcome: 'lost' }])
    expect(await job.status()).toMatchObject({ state: 'running', step: 0 })
  })

  test('a lock that ran out unnoticed is taken again', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const { fake } = await pretend(prefix, { isHeld: true })
    const job = await server.add(request('a'), { client })
    await until(job, ({ type }) => type === 'stage')
    await redis.client.del(`${prefix}:queue:tiny:job-${job.id}:lock`)
    await expect.poll(() => redis.client.exists(`${prefix}:queue:tiny:job-${job.id}:lock`)).toBe(1)
    await fake.go()
    await fake.go()
    expect(count(await collect(job.events()), 'started')).toBe(1)
  })

  test('a worker prefers the model that it has in memory, but takes another after 8 jobs', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const { fake } = await pretend(prefix, { models: ['one', 'two'], isHeld: true })
    const gate = await server.add(request('gate', { steps: 1 }, 'one'), { client })
    await until(gate, ({ type }) => type === 'stage')
    const jobs = [gate]
    for (let i = 0; i < 10; i++)
      for (const model of ['two', 'one'])
        jobs.push(await server.add(request(model, { steps: 1 }, model), { client: `${model}`, priority: 0 }))
    let isOver = false
    const ends = Promise.all(jobs.map((job) => collect(job.events()))).finally(() => (isOver = true))
    while (!isOver) await fake.go()
    await ends
    const rows = fake.begun.slice(1).join(' ')
    const [one, two] = ['one ', 'two ']
    expect(`${rows} `).toBe(one.repeat(7) + two.repeat(8) + one.repeat(3) + two.repeat(2))
  })

  test('among idle workers the one with the model in memory takes the job', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    const [a, b] = [
      await pretend(prefix, { models: ['one', 'two'] }),
      await pretend(prefix, { models: ['two', 'one'] }),
    ]
    for (let i = 0; i < 5; i++)
      for (const model of ['one', 'two']) {
        const job = await server.add(request(model, {}, model), { client })
        await collect(job.events())
      }
    expect([a.fake.begun, b.fake.begun]).toEqual([Array(5).fill('one'), Array(5).fill('two')])
    expect(await server.counts()).toMatchObject({ workers: 2 })
  })

  test('LoRAs have to be where the model is', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    await pretend(prefix, { models: ['one'], loras: ['ink'] })
    await pretend(prefix, { models: ['two'], loras: ['oil', 'ink'] })
    const add = (model: string, ...loras: string[]) =>
      server.add(request('a', { loras: loras.map((path) => ({ path })) }, model), { client })
    await add('one', 'ink.safetensors')
    await add('two', 'oil', 'ink')
    await expect(add('one', 'oil')).rejects.toMatchObject({
      ...{ code: 'FLUX_NOT_FOUND', message: "there is no LoRA named 'oil'; workers offer ink" },
    })
    await expect(add('three')).rejects.toThrow("there is no model named 'three'; workers offer one, two")
    expect(await server.loras()).toEqual(['ink', 'oil'])
  })

  test('limits and ids count for all servers', async () => {
    const prefix = newPrefix()
    const [a, b] = await Promise.all([serve(prefix, { perClient: 2 }), serve(prefix, { perClient: 2 })])
    const { fake } = await pretend(prefix, { isHeld: true })
    const [x, y] = await Promise.all(
      [a, b].map((server) => server.add(request('a', { steps: 1 }), { client, id: 'same', fingerprint: 'f' })),
    )
    expect(x!.id).toBe(y!.id)
    await expect(b.add(request('b'), { client, id: 'same' })).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await a.add(request('b'), { client })
    await expect(b.add(request('c'), { client })).rejects.toMatchObject({ code: 'FLUX_BUSY' })
    const many = await Promise.allSettled(
      Array.from({ length: 10 }, (_, i) => [a, b][i % 2]!.add(request('d'), { client: 'x' })),
    )
    expect(many.filter(({ status }) => status === 'fulfilled')).toHaveLength(2)
    await until(x!, ({ type }) => type === 'stage')
    expect(await a.counts()).toMatchObject({ waiting: 3, running: 1 })
    await fake.go()
    await collect(x!.events())
    await b.add(request('c'), { client })
  })

  test('a server that dies while it adds a job leaves nothing behind', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix, { perClient: 1 })
    await pretend(prefix)
    const job = await server.add(request('a'), { client })
    await collect(job.events())
    // as it is between the two steps of adding, half a minute later
    const key = `${prefix}:job:half`
    await redis.client.hset(key, {
      state: 'waiting',
      queue: 'tiny',
      inputs: '["inputs/half/0"]',
      fingerprint: '',
      client: 'c',
    })
    await redis.client.zadd(`${prefix}:waiting`, 1, 'half')
    await redis.client.sadd(`${prefix}:client:c`, 'half')
    await redis.client.zadd(`${prefix}:reserved`, 1, 'half')
    expect(await server.counts()).toMatchObject({ waiting: 1 })
    await server.add(request('b'), { client })
    expect(await redis.client.exists(key, `${prefix}:client:c`)).toBe(0)
    expect(await redis.client.zscore(`${prefix}:garbage`, '["inputs/half/0"]')).not.toBeNull()
    expect(await redis.client.zscore(`${prefix}:waiting`, 'half')).toBeNull()
  })

  test('images of a request are deleted after the job, results when the job is forgotten', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix, { keep: 500 })
    const { fake } = await pretend(prefix, { isHeld: true })
    const job = await server.add(request('a', { image: new Uint8Array(2000), steps: 1 }), { client })
    await until(job, ({ type }) => type === 'stage')
    const inputs = () =>
      readdirSync(join(images, 'ggflux-images', 'inputs'), { recursive: true }).filter((name) =>
        /\d$/.test(String(name)),
      )
    expect(inputs().filter((name) => String(name).includes('/'))).toHaveLength(1)
    expect(Buffer.from(fake.requests[0]!.options.image as Uint8Array)).toHaveLength(2000)
    await fake.go()
    await collect(job.events())
    await expect.poll(() => inputs().filter((name) => String(name).includes('/'))).toHaveLength(0)
    expect(await job.image(0)).toBeDefined()
    expect(await redis.client.hkeys(`${prefix}:job:${job.id}`)).not.toContain('request') // the prompt
    await sleep(600)
    // the next job's end is an occasion to clean up
    const next = await server.add(request('b', { steps: 1 }), { client })
    await until(next, ({ type }) => type === 'stage')
    await fake.go()
    await expect.poll(() => job.image(0)).toBeUndefined()
    await sleep(600)
    const kept = await redis.client.keys(`${prefix}:job:*`)
    expect(kept).toEqual([])
  })

  test('old previews go, all other events stay', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    await pretend(prefix, { previewSize: 512 }, { lease: 6000 })
    const steps = 20
    const job = await server.add(request('a', { steps, preview: {} }), { client })
    await until(job, step(steps))
    const files = await redis.client.hvals(`${prefix}:job:${job.id}:previews`)
    const events = await collect(job.events())
    expect(count(events, 'step')).toBe(steps)
    const shown = events.flatMap((event) => (event.type === 'step' && event.preview ? [event] : []))
    expect(files).toHaveLength(shown.length)
    expect(shown.length).toBeLessThan(steps)
    expect(shown.at(-1)).toMatchObject({ step: steps })
    const bytes = shown.reduce((sum, { preview }) => sum + (preview!.data.length * 3) / 4, 0)
    expect(bytes).toBeLessThan(8 * 2 ** 20)
    expect(bytes).toBeGreaterThan(7 * 2 ** 20)
  })

  test('what is in Redis stays small, whatever the size of images and previews', async () => {
    const own = await TestRedis.start(folder)
    cleanUp.push(() => own.stop())
    const options = { url: own.url, store: new FolderStore(images) }
    const server = await RedisQueue.connect(options)
    cleanUp.push(() => server.close())
    const worker = await RedisWorker.connect(new FakeHost({ previewSize: 256 }).host, options)
    cleanUp.push(() => worker.close(0))
    const used = async () => Number(/used_memory_dataset:(\d+)/.exec(await own.client.info('memory'))![1])
    const draw = async () => {
      const options = { image: new Uint8Array(2 * 2 ** 20), steps: 8, preview: {} }
      await collect((await server.add(request('a fox', options), { client })).events())
    }
    await draw() // creates what there is once
    await sleep(5500)
    const before = await used()
    let most = 0
    for (let i = 0; i < 20; i++) {
      await draw()
      most = Math.max(most, await used())
    }
    await sleep(5500) // previews are kept for 5 s after the end
    const perJob = Math.round(((await used()) - before) / 20)
    console.log(`20 jobs: at most ${most - before} bytes, and ${perJob} per job that is over`)
    expect(perJob).toBeLessThan(10_000)
    expect(perJob).toBeGreaterThan(500) // it has measured something
    // the previews of all 20, 1.6 MB each, and buffers
    expect(most - before).toBeLessThan(45 * 2 ** 20)
    // nothing remains in BullMQ's queue, and few of its events
    expect(await own.client.keys('ggflux:queue:tiny:job-*')).toEqual([])
    expect(await own.client.xlen('ggflux:queue:tiny:events')).toBeLessThan(300)
  })

  test('an idle worker begins a job at once', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix)
    await pretend(prefix)
    const times: number[] = []
    for (let i = 0; i < 20; i++) {
      await sleep(20)
      const added = performance.now()
      const job = await server.add(request('a'), { client })
      await until(job, ({ type }) => type === 'started')
      times.push(performance.now() - added)
    }
    times.sort((a, b) => a - b)
    console.log(`add to started: median ${times[10]!.toFixed(1)} ms, longest ${times[19]!.toFixed(1)} ms`)
    expect(times[10]).toBeLessThan(100 * patience)
  })

  test('a job whose model nobody offers any more fails after a time', async () => {
    const prefix = newPrefix()
    const server = await serve(prefix, { orphaned: 1000 })
    const { fake, worker } = await pretend(prefix, { isHeld: true })
    const running = await server.add(request('a'), { client })
    const waiting = await server.add(request('b'), { client })
    await until(running, ({ type }) => type === 'stage')
    await worker.close(0)
    const [first, second] = await Promise.all([collect(running.events()), collect(waiting.events())])
    for (const events of [first, second])
      expect(events.at(-1)).toMatchObject({ type: 'failed', code: 'FLUX_NOT_FOUND' })
    expect(fake.begun).toEqual(['a'])
    await expect.poll(() => server.models(), { timeout: 15_000 }).toEqual([])
    await expect(server.add(request('c'), { client })).rejects.toThrow('no worker offers any')
  })

  test('without Redis there is an error at once; its password is not shown', async () => {
    const url = `redis://me:secret@127.0.0.1:${await freePort()}`
    const connect = (url: string) => RedisQueue.connect({ url, store: new FolderStore(images) })
    const start = Date.now()
    const error = await connect(url).catch((error: Error) => error)
    expect(error).toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringMatching(/ECONNREFUSED.*redis-server/),
    })
    expect((error as Error).message).not.toContain('secret')
    expect(Date.now() - start).toBeLessThan(1000 * patience)
    await expect(connect('http://localhost')).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await expect(startWorker(url, images)).rejects.toThrow(/ended with 1: ggflux: there is no Redis at redis:\/\/127/)
    const locked = await TestRedis.start(folder, ['--requirepass', 'right'])
    cleanUp.push(() => locked.stop())
    await expect(connect(locked.url)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await expect(connect(locked.url.replace('//', '//:wrong@'))).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await (await connect(locked.url.replace('//', '//:right@'))).close()
  })

  test('a Redis that may delete keys is warned about', async () => {
    const careless = await TestRedis.start(folder, ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'])
    cleanUp.push(() => careless.stop())
    const warnings: string[] = []
    const listen = ({ message }: Error) => warnings.push(message)
    process.on('warning', listen)
    const queue = await RedisQueue.connect({ url: careless.url, store: new FolderStore(images) })
    await sleep(20)
    process.off('warning', listen)
    await queue.close()
    expect(warnings).toEqual([expect.stringContaining('maxmemory-policy allkeys-lru')])
  })

  test('Redis is restarted: requests fail in time, and running jobs, followers and workers go on', async () => {
    const own = await TestRedis.start(folder)
    cleanUp.push(() => own.stop())
    const options = { url: own.url, store: new FolderStore(images) }
    const server = await RedisQueue.connect(options)
    cleanUp.push(() => server.close())
    const fake = new FakeHost({ isHeld: true })
    const worker = await RedisWorker.connect(fake.host, { ...options, lease: 1000 })
    cleanUp.push(() => worker.close(0))
    const job = await server.add(request('a', { steps: 4 }), { client })
    const waiting = await server.add(request('b', { steps: 1 }), { client })
    const [followed, other] = [collect(job.events()), collect(waiting.events())]
    await until(job, ({ type }) => type === 'stage')
    await fake.go()
    await until(job, step(1))
    await sleep(1100) // what Redis writes to disk each second
    await own.kill()
    const start = Date.now()
    const refused = server.add(request('c'), { client })
    await fake.go()
    await expect(refused).rejects.toMatchObject({
      code: 'FLUX_CLOSED',
      message: expect.stringContaining('does not answer'),
    })
    expect(Date.now() - start).toBeLessThan(4000 * patience)
    await own.begin()
    for (let isOver = false; !isOver; ) {
      void Promise.all([followed, other]).finally(() => (isOver = true))
      await fake.go()
    }
    const events = await followed
    expect(events.map(({ id }) => id)).toEqual(events.map((_, i) => i + 1))
    expect(types(events).at(-1)).toBe('completed')
    expect(count(events, 'started')).toBe(1)
    expect(types(await other).at(-1)).toBe('completed')
    const next = await server.add(request('d', { steps: 1 }), { client })
    await until(next, ({ type }) => type === 'stage')
    await fake.go()
    expect(types(await collect(next.events())).at(-1)).toBe('completed')
  }, 90_000)

  test('Redis is restarted without its data: followers learn that their job is lost', async () => {
    const own = await TestRedis.start(folder, ['--appendonly', 'no'])
    cleanUp.push(() => own.stop())
    const options = { url: own.url, store: new FolderStore(images) }
    const server = await RedisQueue.connect(options)
    cleanUp.push(() => server.close())
    const fake = new FakeHost({ isHeld: true })
    const worker = await RedisWorker.connect(fake.host, { ...options, lease: 600 })
    cleanUp.push(() => worker.close(0))
    const job = await server.add(request('a', { steps: 4 }), { client })
    const followed = collect(job.events())
    await until(job, ({ type }) => type === 'stage')
    await own.kill()
    await own.begin(['--appendonly', 'no'])
    expect((await followed).at(-1)).toMatchObject({ type: 'failed', code: 'INTERNAL' })
    await fake.go()
    // the worker and the server have noticed as well
    await expect.poll(async () => (await server.models().catch(() => [])).length, { timeout: 10_000 }).toBe(1)
    const next = await server.add(request('b', { steps: 1 }), { client })
    await until(next, ({ type }) => type === 'stage')
    await fake.go()
    expect(types(await collect(next.events())).at(-1)).toBe('completed')
  })
})
