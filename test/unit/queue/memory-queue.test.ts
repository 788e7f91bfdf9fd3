import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { MemoryQueue } from '../../../lib/queue/memory-queue.js'
import type { JobRequest } from '../../../lib/queue/queue.js'
import { collect } from '../../support/async.js'
import { FakeHost } from '../../support/fake-host.js'

const client = 'somebody'
const request = (options: Partial<JobRequest['options']> = {}): JobRequest => ({
  ...{ model: 'tiny', options: { prompt: 'a', steps: 2, ...options } },
})

test('images of jobs in the queue take a limited part of the memory, and none once the job is over', async () => {
  const fake = new FakeHost({ isHeld: true })
  const queue = new MemoryQueue(fake.host, { imageBytes: 1000 })
  const large = request({ image: Buffer.alloc(600), controlNets: [{ path: 'x', image: Buffer.alloc(300) }] })
  const job = await queue.add(large, { client })
  await queue.add(request({ image: Buffer.alloc(100) }), { client })
  await expect(queue.add(request({ image: Buffer.alloc(1) }), { client })).rejects.toMatchObject({ code: 'FLUX_BUSY' })
  await queue.add(request(), { client })
  await job.cancel()
  await collect(job.events())
  const next = await queue.add(large, { client })
  await next.cancel()
  await queue.close(0)
})

test('previews are there while a job runs and shortly after, then only the other events', async () => {
  const fake = new FakeHost()
  const queue = new MemoryQueue(fake.host)
  const job = await queue.add(request({ preview: { every: 1 } }), { client })
  const events = await collect(job.events())
  expect(events.some((event) => 'preview' in event)).toBe(true)
  expect((await collect(job.events())).some((event) => 'preview' in event)).toBe(true)
  await sleep(5500)
  const later = await collect(job.events())
  expect(later.some((event) => 'preview' in event)).toBe(false)
  expect(later.map(({ id, type }) => [id, type])).toEqual(events.map(({ id, type }) => [id, type]))
  await queue.close(0)
})

test('a job is forgotten with its images after its time, and the oldest of very many before', async () => {
  const fake = new FakeHost()
  const queue = new MemoryQueue(fake.host, { keep: 300 })
  const job = await queue.add(request(), { client })
  await collect(job.events())
  expect(await job.image(0)).toBeDefined()
  for (let i = 0; i < 100 && (await queue.get(job.id)); i++) await sleep(20)
  expect(await queue.get(job.id)).toBeUndefined()
  expect(await job.image(0)).toBeUndefined()
  const long = new MemoryQueue(fake.host)
  const first = await long.add(request(), { client })
  await collect(first.events())
  for (let i = 0; i < 1000; i++) await collect((await long.add(request(), { client })).events())
  expect(await long.get(first.id)).toBeUndefined()
  await Promise.all([queue.close(0), long.close(0)])
})
