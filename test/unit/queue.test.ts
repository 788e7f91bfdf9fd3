import { expect, test } from 'vitest'
import { Queue } from '../../lib/queue.js'

const tick = () => new Promise((resolve) => setImmediate(resolve))

/** Whether the promise is settled by now. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  promise.then(() => (done = true), () => (done = true))
  await tick()
  return done
}

test('one at a time, in the order of asking', async () => {
  const queue = new Queue('the test')
  const order: number[] = []
  let inside = 0
  await Promise.all(
    [1, 2, 3, 4, 5].map(async (n) => {
      const leave = await queue.enter()
      order.push(n)
      expect(++inside).toBe(1)
      await tick()
      inside--
      leave()
    }),
  )
  expect(order).toEqual([1, 2, 3, 4, 5])
})

test('leaving twice lets only one in', async () => {
  const queue = new Queue('the test')
  const leave = await queue.enter()
  const second = queue.enter()
  const third = queue.enter()
  leave()
  leave()
  await second
  expect(await settled(third)).toBe(false)
  ;(await second)()
  expect(await settled(third)).toBe(true)
})

test('who is aborted while waiting gets the reason at once and keeps nobody waiting', async () => {
  const queue = new Queue('the test')
  const leave = await queue.enter()
  const controller = new AbortController()
  const waiting = queue.enter(controller.signal)
  const behind = queue.enter()
  controller.abort('changed my mind')
  await expect(waiting).rejects.toBe('changed my mind')
  expect(await settled(behind)).toBe(false)
  leave()
  expect(await settled(behind)).toBe(true)
})

test('an abort before asking, and one after the turn came', async () => {
  const queue = new Queue('the test')
  await expect(queue.enter(AbortSignal.abort('before'))).rejects.toBe('before')
  const controller = new AbortController()
  const leave = await queue.enter(controller.signal)
  controller.abort('after')
  const next = queue.enter()
  expect(await settled(next)).toBe(false)
  leave()
  expect(await settled(next)).toBe(true)
})

test('closing refuses those who wait and those who come, though somebody never leaves', async () => {
  const queue = new Queue('the test')
  await queue.enter()
  const closed = expect.objectContaining({ code: 'FLUX_CLOSED', message: 'the test was closed; load it again' })
  const waiting = [queue.enter(), queue.enter(new AbortController().signal)].map((promise) => expect(promise).rejects.toThrow(closed))
  queue.close()
  queue.close()
  await Promise.all(waiting)
  await expect(queue.enter()).rejects.toThrow(closed)
})
