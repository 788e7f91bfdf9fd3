import { availableParallelism } from 'node:os'
import { expect, test } from 'vitest'
import { longestStandstill, processorClock, stopwatch } from '../support/clock.js'

// The clocks that other tests measure with leave out only what other programs take.

const calculate = (milliseconds: number) => {
  const took = processorClock()
  while (took() < milliseconds);
}
const wait = (milliseconds: number) => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)

test.each([
  ['calculates', calculate],
  ['waits', wait],
])('a main thread that %s makes the event loop stand still', async (_, block) => {
  const { longest } = await longestStandstill(async () => {
    await new Promise((resolve) => setTimeout(resolve, 20))
    block(60)
    await new Promise((resolve) => setTimeout(resolve, 20))
  })
  expect(longest).toBeGreaterThan(40)
})

test('an event loop that turns does not stand still', async () => {
  const { turns } = await longestStandstill(() => new Promise((resolve) => setTimeout(resolve, 100)))
  expect(turns).toBeGreaterThan(4)
})

test('a stopwatch shows no less than what its own process calculates', () => {
  const read = stopwatch()
  calculate(60)
  expect(read()).toBeGreaterThanOrEqual(60 / availableParallelism())
})
