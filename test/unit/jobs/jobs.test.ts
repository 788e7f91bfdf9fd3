import { expect, test } from 'vitest'
import type { GenerateEvent, ImageEvent, StepEvent } from '../../../lib/jobs/events.js'
import type { Work } from '../../../lib/jobs/job.js'
import { JobQueue } from '../../../lib/jobs/job-queue.js'
import { collect, isSettled } from '../../support/async.js'

const tick = () => new Promise((resolve) => setImmediate(resolve))

const image = { type: 'image', index: 0, image: Buffer.from('image') } as ImageEvent
const step = (step: number, steps: number, bytes = 0): StepEvent => {
  const shown = bytes ? { preview: { data: Buffer.alloc(bytes), width: 1, height: 1 } } : {}
  return { type: 'step', index: 0, step, steps, sigma: 1, sigmaNext: 0, ms: 1, reused: false, ...shown }
}

/** Work that goes on when `go` is called; it stops within a step when it is cancelled, as a network does. */
function work(
  steps = 1,
  bytes = 0,
): { work: Work; go: () => Promise<void>; begun: () => boolean; ended: () => boolean } {
  let [begun, ended] = [false, false]
  let release: (() => void) | undefined
  return {
    async *work(signal) {
      begun = true
      try {
        for (let i = 1; i <= steps; i++) {
          await new Promise<void>((resolve, reject) => {
            release = resolve
            signal.addEventListener('abort', () => setTimeout(() => reject(signal.reason as Error), 5))
          })
          yield step(i, steps, bytes)
        }
        return image
      } finally {
        ended = true
      }
    },
    async go() {
      await tick()
      release?.()
      await tick()
    },
    begun: () => begun,
    ended: () => ended,
  }
}

/** Work that is done at once. */
const quick = (...events: Exclude<GenerateEvent, ImageEvent>[]): Work =>
  async function* () {
    yield* events
    return image
  }

test('one at a time, in the order of asking; position and progress tell how far it is', async () => {
  const queue = new JobQueue()
  const works = [work(3), work(), work()]
  const jobs = works.map(({ work }) => queue.add(work))
  expect(new Set(jobs.map(({ id }) => id)).size).toBe(3)
  await tick()
  expect(jobs.map(({ position }) => position)).toEqual([0, 1, 2])
  expect(works.map(({ begun }) => begun())).toEqual([true, false, false])
  expect(jobs[0]!.progress).toBe(0)
  await works[0]!.go()
  expect(jobs[0]!.progress).toBe(1 / 4)
  await works[0]!.go()
  await works[0]!.go()
  expect(jobs.map(({ position, progress }) => [position, progress])).toEqual([
    [0, 1],
    [0, 0],
    [1, 0],
  ])
  expect(await jobs[0]!.result).toBe(image)
  expect(works.map(({ begun }) => begun())).toEqual([true, true, false])
})

test('runs by itself, whether nobody reads or a reader has stopped', async () => {
  const queue = new JobQueue()
  const job = queue.add(quick(step(1, 2), step(2, 2)))
  const reader = job.events()
  await reader.next()
  expect(await job.result).toBe(image)
  expect(await queue.add(quick()).result).toBe(image)
  expect(await collect(reader)).toEqual([step(2, 2), image])
})

test('any number of readers see all events, however late they come; one that leaves ends nothing', async () => {
  const queue = new JobQueue()
  const { work: steps, go } = work(2)
  const job = queue.add(steps)
  const early = Array.from({ length: 20 }, () => collect(job.events()))
  const leaving = (async () => {
    for await (const event of job.events()) if (event.type === 'step') break
  })()
  await go()
  await leaving
  const middle = collect(job.events())
  await go()
  const all = [step(1, 2), step(2, 2), image]
  for (const reader of [...early, middle, collect(job.events())]) expect(await reader).toEqual(all)
})

test('previews beyond 32 MiB are dropped, the oldest first; everything else is kept', async () => {
  const queue = new JobQueue()
  const warning = { type: 'warning', message: 'careful' } as const
  const size = 10 * 2 ** 20
  const job = queue.add(quick(warning, ...Array.from({ length: 6 }, (_, i) => step(i + 1, 6, size))))
  await job.result
  const events = await collect(job.events())
  expect(
    events.map((event) => (event.type === 'step' ? [event.step, event.preview !== undefined] : event.type)),
  ).toEqual(['warning', [1, false], [2, false], [3, false], [4, true], [5, true], [6, true], 'image'])
  const large = queue.add(quick(step(1, 2, 4 * size), step(2, 2, 4 * size)))
  await large.result
  expect((await collect(large.events())).map((event) => event.type === 'step' && event.preview !== undefined)).toEqual([
    false,
    true,
    false,
  ])
})

test('cancelled while it waits: the reason at once, and the others keep their places', async () => {
  const queue = new JobQueue()
  const [first, second, third] = [work(), work(), work()]
  const [running, waiting, behind] = [first, second, third].map(({ work }) => queue.add(work)) as [
    ReturnType<JobQueue['add']>,
    ReturnType<JobQueue['add']>,
    ReturnType<JobQueue['add']>,
  ]
  waiting.cancel('changed my mind')
  await expect(waiting.result).rejects.toBe('changed my mind')
  await expect(collect(waiting.events())).rejects.toBe('changed my mind')
  expect([second.begun(), third.begun()]).toEqual([false, false])
  expect(behind.position).toBe(1)
  await first.go()
  await running.result
  await third.go()
  expect(await behind.result).toBe(image)
})

test('cancelled while it runs: the next begins when it has stopped; afterwards cancelling does nothing', async () => {
  const queue = new JobQueue()
  const [first, second] = [work(2), work()]
  const [running, next] = [queue.add(first.work), queue.add(second.work)]
  await first.go()
  running.cancel()
  expect(await isSettled(next.result)).toBe(false)
  expect([first.ended(), second.begun()]).toEqual([false, false])
  await expect(running.result).rejects.toMatchObject({ name: 'AbortError' })
  await expect(collect(running.events())).rejects.toMatchObject({ name: 'AbortError' })
  await second.go()
  expect(await next.result).toBe(image)
  next.cancel()
  expect(await collect(next.events())).toEqual([step(1, 1), image])
})

test("the signal's reason, before, while it waits and while it runs", async () => {
  const queue = new JobQueue()
  await expect(queue.add(quick(), AbortSignal.abort('before')).result).rejects.toBe('before')
  const controller = new AbortController()
  const { work: steps, go } = work(2)
  const jobs = [queue.add(steps, controller.signal), queue.add(quick(), controller.signal)]
  await go()
  controller.abort('stop')
  for (const job of jobs) await expect(job.result).rejects.toBe('stop')
  expect(await queue.add(quick()).result).toBe(image)
})

test('a failure reaches the readers after the events before it, and does not stop those behind', async () => {
  const queue = new JobQueue()
  const job = queue.add(async function* () {
    yield step(1, 2)
    throw new Error('broken')
  })
  const seen: GenerateEvent[] = []
  const read = async () => {
    for await (const event of job.events()) seen.push(event)
  }
  await expect(read()).rejects.toThrow('broken')
  expect(seen).toEqual([step(1, 2)])
  expect(await queue.add(quick()).result).toBe(image)
})

test('closing cancels what runs, waits for its end, and refuses what waits or comes', async () => {
  const queue = new JobQueue()
  const reason = new Error('closed')
  const { work: steps, go, ended } = work(2)
  const jobs = [queue.add(steps), queue.add(quick())]
  await go()
  await queue.close(reason)
  expect(ended()).toBe(true)
  for (const job of [...jobs, queue.add(quick())]) await expect(job.result).rejects.toBe(reason)
  await queue.close(reason)
})

test('one signal for many jobs has one listener, and none when they are over', async () => {
  const warnings: Error[] = []
  const warned = (warning: Error) => warnings.push(warning)
  process.on('warning', warned)
  const { signal } = new AbortController()
  let listeners = 0
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)]
  const seen = new Set<unknown>()
  signal.addEventListener = (...args: Parameters<typeof add>) => (
    seen.add(args[1]), (listeners = seen.size), add(...args)
  )
  signal.removeEventListener = (...args: Parameters<typeof remove>) => (
    seen.delete(args[1]), (listeners = seen.size), remove(...args)
  )
  const queue = new JobQueue()
  const jobs = Array.from({ length: 30 }, () => queue.add(quick(), signal))
  expect(listeners).toBe(1)
  await Promise.all(jobs.map(({ result }) => result))
  await tick()
  expect(listeners).toBe(0)
  process.off('warning', warned)
  expect(warnings).toEqual([])
})

test('progress counts all images of a job', async () => {
  async function* two(): ReturnType<Work> {
    yield step(1, 1)
    yield image
    yield { ...step(1, 1), index: 1 }
    return { ...image, index: 1 }
  }
  const seen: number[] = []
  const job = new JobQueue().add(two, undefined, 2)
  for await (const _ of job.events()) seen.push(job.progress)
  await job.result
  expect(seen.at(-1)).toBe(1)
  expect((await collect(job.events())).map((event) => 'index' in event && event.index)).toEqual([0, 0, 1, 1])
})
