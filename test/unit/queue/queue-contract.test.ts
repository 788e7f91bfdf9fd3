import { afterEach, beforeAll, afterAll, describe, expect, test } from 'vitest'
import { randomUUID } from 'node:crypto'
import { MemoryQueue } from '../../../lib/queue/memory-queue.js'
import { MemoryStore } from '../../../lib/queue/image-store.js'
import { RedisQueue } from '../../../lib/queue/redis-queue.js'
import { RedisWorker } from '../../../lib/queue/redis-worker.js'
import type { ImageQueue, JobEvent, JobRequest, JobStatus, QueuedJob } from '../../../lib/queue/queue.js'
import { statusAfter } from '../../../lib/queue/job-status.js'
import { collect } from '../../support/async.js'
import { FakeHost, type FakeHostOptions } from '../../support/fake-host.js'
import { hasRedis, TestRedis } from '../../support/redis.js'
import { temporaryFolder } from '../../support/temporary.js'

interface Limits {
  waiting?: number
  perClient?: number
  keep?: number
}

interface Kind {
  name: string
  isHere: boolean
  begin(): Promise<void>
  end(): Promise<void>
  /** a queue whose jobs `host` carries out */
  make(host: FakeHost, limits: Limits, onError: (error: unknown) => void): Promise<ImageQueue>
}

const memory: Kind = {
  name: 'in memory',
  isHere: true,
  begin: async () => {},
  end: async () => {},
  make: async ({ host }, limits, onError) => new MemoryQueue(host, { ...limits, onError }),
}

let server: TestRedis
const folder = temporaryFolder()
const redis: Kind = {
  name: 'in Redis',
  isHere: hasRedis,
  begin: async () => void (server = await TestRedis.start(folder)),
  end: () => server.stop(),
  async make({ host }, limits, onError) {
    const shared = { url: server.url, prefix: `test-${randomUUID()}`, store: new MemoryStore() }
    const worker = await RedisWorker.connect(host, { ...shared, onError })
    const queue = await RedisQueue.connect({ ...shared, ...limits })
    const { close } = queue
    queue.close = async () => {
      await worker.close(0)
      await close.call(queue)
    }
    return queue
  },
}

const request = (prompt: string, options: Partial<JobRequest['options']> = {}, model = 'tiny'): JobRequest => ({
  ...{ model, options: { prompt, steps: 2, seed: 7, ...options } },
})

const client = 'somebody'

for (const kind of [memory, redis])
  describe.skipIf(!kind.isHere)(`a queue ${kind.name}${kind.isHere ? '' : ' (there is no redis-server)'}`, () => {
    beforeAll(() => kind.begin())
    afterAll(() => kind.end())

    let queue: ImageQueue
    let host: FakeHost
    const faults: unknown[] = []
    const made: ImageQueue[] = []
    const make = async (options: FakeHostOptions = {}, limits: Limits = {}) => {
      host = new FakeHost(options)
      queue = await kind.make(host, limits, (error) => faults.push(error))
      made.push(queue)
    }
    afterEach(async () => {
      for (const queue of made.splice(0)) await queue.close(0)
      faults.length = 0
    })

    /** Waits until a job runs and has come to a gate. */
    const running = async (job: QueuedJob, until: JobEvent['type'] = 'stage') => {
      for await (const { type } of job.events()) if (type === until) break
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const types = (events: JobEvent[]) => events.map(({ type }) => type).filter((type) => type !== 'waiting')
    const free = async (jobs: QueuedJob[]) => {
      const ends = Promise.all(jobs.map((job) => collect(job.events())))
      let isOver = false
      void ends.finally(() => (isOver = true)).catch(() => {})
      while (!isOver) await host.go()
      return ends
    }

    test('events are numbered from 1 and end with completed; readers may come later, and begin anywhere', async () => {
      await make()
      const job = await queue.add(request('a fox', { count: 2, preview: {} }), { client })
      const events = await collect(job.events())
      expect(events.map(({ id }) => id)).toEqual(events.map((_, i) => i + 1))
      expect(types(events)).toEqual([
        ...['started', 'stage', 'step', 'step', 'image', 'step', 'step', 'image', 'completed'],
      ])
      const shown = events.flatMap((event) => (event.type === 'step' && event.preview ? [event.preview] : []))
      expect(shown[0]).toMatchObject({ format: 'png', width: 8, height: 8 })
      expect(Buffer.from(shown[0]!.data, 'base64').subarray(1, 4).toString()).toBe('PNG')
      const later = (await queue.get(job.id))!
      const without = (events: JobEvent[]) => events.map((event) => ({ ...event, preview: undefined }))
      expect(without(await collect(later.events(3)))).toEqual(without(events.slice(3)))
      expect(await collect(later.events(events.length))).toEqual([])
      expect((await later.image(1))?.toString()).toBe('a fox 7')
      expect(await later.image(2)).toBeUndefined()
    })

    test('the status is what the events say', async () => {
      await make()
      const job = await queue.add(request('a fox'), { client })
      const events = await collect(job.events())
      const status = await job.status()
      const start: JobStatus = { ...status, state: 'waiting', step: 0, steps: 0, progress: 0, images: [], lastEvent: 0 }
      expect(status).toEqual(events.reduce(statusAfter, start))
      expect(status).toMatchObject({
        state: 'completed',
        progress: 1,
        count: 1,
        model: 'tiny',
        error: null,
        position: 0,
      })
      expect(status.images).toHaveLength(1)
    })

    test('higher priorities are first, equal ones in the order of adding; positions are those', async () => {
      await make({ isHeld: true })
      const first = await queue.add(request('first'), { client })
      await running(first)
      const jobs = [first]
      for (const [prompt, priority] of [
        ['low', -5],
        ['a', 0],
        ['b', 0],
        ['high', 100],
        ['c', 0],
        ['lowest', -100],
      ] as const)
        jobs.push(await queue.add(request(prompt), { client, priority }))
      const order = ['first', 'high', 'a', 'b', 'c', 'low', 'lowest']
      expect(await queue.counts()).toEqual({ waiting: 6, running: 1, workers: 1 })
      const names = ['first', 'low', 'a', 'b', 'high', 'c', 'lowest']
      for (const [i, job] of jobs.entries()) expect((await job.status()).position).toBe(order.indexOf(names[i]!))
      const all = await free(jobs)
      expect(host.begun).toEqual(order)
      const told = all[6]!.flatMap((event) => (event.type === 'waiting' ? [event.position] : []))
      expect(told).toEqual([6, 5, 4, 3, 2, 1, ...(told.at(-1) === 0 ? [0] : [])])
    })

    test('a waiting job that is cancelled is over at once and never begins', async () => {
      await make({ isHeld: true })
      const first = await queue.add(request('first'), { client })
      await running(first)
      const second = await queue.add(request('second'), { client })
      await second.cancel()
      expect(types(await collect(second.events()))).toEqual(['cancelled'])
      expect(await second.status()).toMatchObject({ state: 'cancelled', position: 0 })
      expect(await queue.counts()).toMatchObject({ waiting: 0 })
      const third = await queue.add(request('third'), { client })
      await free([first, third])
      expect(host.begun).toEqual(['first', 'third'])
    })

    test('a running job that is cancelled ends within its step, and the next one begins', async () => {
      await make({ isHeld: true })
      const job = await queue.add(request('first', { steps: 100 }), { client })
      await running(job)
      await host.go()
      const next = await queue.add(request('next'), { client })
      await job.cancel()
      await job.cancel()
      expect(types(await collect(job.events())).at(-1)).toBe('cancelled')
      await free([next])
      expect(await next.status()).toMatchObject({ state: 'completed' })
      await next.cancel()
      expect(await next.status()).toMatchObject({ state: 'completed' })
    })

    test('a full queue, and a client with too many jobs, are refused until there is room', async () => {
      await make({ isHeld: true }, { waiting: 2, perClient: 2 })
      const jobs = [await queue.add(request('1'), { client: 'a' })]
      await running(jobs[0]!)
      jobs.push(await queue.add(request('2'), { client: 'a' }))
      await expect(queue.add(request('x'), { client: 'a' })).rejects.toMatchObject({
        ...{ code: 'FLUX_BUSY', message: expect.stringContaining('this client has 2 jobs') },
      })
      jobs.push(await queue.add(request('3'), { client: 'b' }))
      await expect(queue.add(request('x'), { client: 'c' })).rejects.toMatchObject({
        ...{ code: 'FLUX_BUSY', message: expect.stringContaining('the queue is full: 2 jobs wait') },
      })
      await free(jobs)
      const last = await queue.add(request('4'), { client: 'a' })
      await free([last])
      expect(host.begun).toEqual(['1', '2', '3', '4'])
    })

    test('a second job with the same id is the first one; with another request it is refused', async () => {
      await make({ isHeld: true })
      const options = { client, id: '2026-once', fingerprint: 'one' }
      const [job, same] = await Promise.all([queue.add(request('a'), options), queue.add(request('a'), options)])
      expect(same.id).toBe(job.id)
      await expect(queue.add(request('b'), { ...options, fingerprint: 'two' })).rejects.toMatchObject({
        code: 'FLUX_BAD_OPTION',
      })
      await free([job])
      expect(await (await queue.add(request('a'), options)).status()).toMatchObject({ state: 'completed' })
      expect(host.begun).toEqual(['a'])
    })

    test('what no worker has is not found', async () => {
      await make()
      await expect(queue.add(request('a', {}, 'none'), { client })).rejects.toMatchObject({
        ...{ code: 'FLUX_NOT_FOUND', message: expect.stringContaining("no model named 'none'") },
      })
      expect(await queue.get('none')).toBeUndefined()
    })

    test('a failure has its code; the details of our faults stay in the log', async () => {
      await make()
      const refused = await queue.add(request('refused'), { client })
      expect((await collect(refused.events())).at(-1)).toMatchObject({
        ...{ type: 'failed', code: 'FLUX_BAD_OPTION', message: 'steps is -1: give a whole number' },
      })
      expect(await refused.status()).toMatchObject({ state: 'failed', error: { code: 'FLUX_BAD_OPTION' } })
      expect(faults).toEqual([])
      const fault = await queue.add(request('fault'), { client })
      expect((await collect(fault.events())).at(-1)).toMatchObject({ type: 'failed', code: 'INTERNAL' })
      expect(JSON.stringify(await collect(fault.events()))).not.toContain('secret')
      expect(String(faults[0])).toContain('secret')
      expect(host.begun).toEqual(['refused', 'fault'])
    })

    test('every end is reported once', async () => {
      await make()
      const ends: string[] = []
      queue.onEnd(({ id, state }) => ends.push(`${id} ${state}`))
      const a = await queue.add(request('a'), { client, id: 'a' })
      const b = await queue.add(request('refused'), { client, id: 'b' })
      await Promise.all([collect(a.events()), collect(b.events())])
      await expect.poll(() => ends).toEqual(['a completed', 'b failed'])
    })

    test('images of a request arrive as they were', async () => {
      await make()
      const bytes = (value: number) => new Uint8Array(1000).fill(value)
      const images = {
        image: bytes(1),
        mask: { alphaOf: { data: bytes(2), width: 10, height: 25, channels: 4 as const } },
        referenceImages: [Buffer.from(bytes(3)), bytes(4)],
        controlNets: [{ path: 'canny', image: bytes(5), scale: 0.5 }],
      }
      const job = await queue.add(request('a', images), { client })
      await collect(job.events())
      const { options } = host.requests[0]!
      expect(options).toMatchObject({ prompt: 'a', seed: 7, controlNets: [{ path: 'canny', scale: 0.5 }] })
      const mask = options.mask as typeof images.mask
      expect(mask.alphaOf).toMatchObject({ width: 10, height: 25, channels: 4 })
      const found = [options.image, mask.alphaOf.data, ...options.referenceImages!, options.controlNets![0]!.image]
      for (const [i, image] of found.entries()) {
        expect(image).toBeInstanceOf(Uint8Array)
        expect(Buffer.compare(image as Uint8Array, bytes(i + 1))).toBe(0)
      }
    })

    test('a job is forgotten some time after its end, and not before', async () => {
      await make({ isHeld: true }, { keep: 400 })
      const job = await queue.add(request('a'), { client })
      await running(job)
      await new Promise((resolve) => setTimeout(resolve, 500))
      expect(await queue.get(job.id)).toBeDefined()
      await free([job])
      expect(await queue.get(job.id)).toBeDefined()
      expect(await job.image(0)).toBeDefined()
      await expect.poll(() => queue.get(job.id), { timeout: 2000 }).toBeUndefined()
    })

    test('a reader that is aborted gets the reason, and the job is not cancelled', async () => {
      await make({ isHeld: true })
      const job = await queue.add(request('a'), { client })
      await running(job)
      const controller = new AbortController()
      const reader = collect(job.events(0, controller.signal))
      controller.abort(new Error('enough'))
      await expect(reader).rejects.toThrow('enough')
      await free([job])
      expect(await job.status()).toMatchObject({ state: 'completed' })
    })

    test('models, LoRAs and devices are those of the workers', async () => {
      await make({ models: ['tiny', 'other'], loras: ['style/ink'] })
      expect((await queue.models()).map(({ name }) => name)).toEqual(['tiny', 'other'])
      await expect.poll(async () => (await queue.models()).map(({ loaded }) => loaded)).toEqual([true, false])
      expect(await queue.loras()).toEqual(['style/ink'])
      const job = await queue.add(request('a'), { client })
      await collect(job.events())
      await expect
        .poll(async () => (await queue.devices()).map(({ memoryTotal }) => memoryTotal), { timeout: 6000 })
        .toEqual([2])
    })

    test('a queue that is closed takes no requests', async () => {
      await make()
      await queue.close(0)
      await expect(queue.add(request('a'), { client })).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
    })
  })
