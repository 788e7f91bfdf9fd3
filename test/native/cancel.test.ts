import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FluxTransformer } from '../../lib/nn.js'
import { anyInput } from '../support/any-input.mjs'
import { goldenWeights } from '../support/golden.js'
import { processorClock, stopwatch } from '../support/clock.js'
import { patience } from '../support/patience.js'
import { sparseFlux } from '../support/sparse-model.js'

let folder: string
let flux: FluxTransformer

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-cancel-'))
  flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'))
})

afterAll(async () => {
  await flux?.close()
  rmSync(folder, { recursive: true })
})

/** Aborts `work` after `delay` ms; how it ended, how long after the abort, and how long all processors would have calculated for it. */
async function abortAfter(delay: number, work: (signal: AbortSignal) => Promise<unknown>) {
  const controller = new AbortController()
  const reason = { why: 'on purpose' }
  const end = work(controller.signal).then(
    () => 'done',
    (error) => (error === reason ? 'the reason' : error),
  )
  await sleep(delay)
  const [read, calculated] = [stopwatch(), processorClock()]
  controller.abort(reason)
  return { end: await end, milliseconds: read(), calculated: calculated() / availableParallelism() }
}

const long = { timeout: 240_000 }

test(
  'an abort at any moment of a step rejects with its reason within 200 ms and leaves the network as it was',
  long,
  async () => {
    const small = anyInput(flux, 8, 16)
    const large = anyInput(flux, 40, 256)
    const before = await flux.predict(small)
    let duration = Infinity
    for (let i = 0; i < 4; i++) {
      const start = performance.now()
      await flux.predict(large)
      duration = Math.min(duration, performance.now() - start)
    }

    const latencies: number[] = []
    let most = 0
    for (let i = 0; i < 30; i++) {
      const { end, milliseconds, calculated } = await abortAfter((duration * i) / 38, (signal) =>
        flux.predict({ ...large, signal }),
      )
      expect(['the reason', 'done']).toContain(end)
      if (end === 'the reason') {
        latencies.push(milliseconds)
        most = Math.max(most, calculated)
      }
      if (i % 10 === 0) expect(await flux.predict(small)).toEqual(before)
    }
    const sorted = latencies.sort((a, b) => a - b)
    console.log(
      `cancelled ${latencies.length} of 30 steps of ${duration.toFixed(0)} ms; median ${sorted[latencies.length >> 1]!.toFixed(1)} ms, worst ${sorted.at(-1)!.toFixed(1)} ms`,
    )
    expect(latencies.length).toBeGreaterThan(20)
    // a single one may have waited for the processors of a busy machine, but none has gone on with its step
    expect(sorted[latencies.length >> 1]).toBeLessThan(200 * patience)
    expect(most).toBeLessThan(200 * patience)
    expect(await flux.predict(small)).toEqual(before)
  },
)

test('an abort before the start runs nothing', async () => {
  const reason = new Error('too late')
  await expect(flux.predict({ ...anyInput(flux, 40, 256), signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  await expect(FluxTransformer.load(flux.path, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
})

test('an abort after the end changes nothing', long, async () => {
  const controller = new AbortController()
  const input = anyInput(flux, 8, 16)
  const result = await flux.predict({ ...input, signal: controller.signal })
  controller.abort()
  expect(await flux.predict(input)).toEqual(result)
})

test('an abort while weights are loaded rejects with its reason and gives the memory back', long, async () => {
  const path = sparseFlux(join(folder, 'large.safetensors'))
  const before = process.memoryUsage.rss()
  const { end, milliseconds } = await abortAfter(150, (signal) => FluxTransformer.load(path, { signal }))
  expect(end).toBe('the reason')
  expect(milliseconds).toBeLessThan(500 * patience)
  expect(process.memoryUsage.rss() - before).toBeLessThan(100 * 2 ** 20)
})

// It may be called once more with 1, when all was loaded between two looks at the progress.
test('what onProgress throws is what the load rejects with', { ...long, retry: 2 }, async () => {
  const thrown = { why: 'the window was closed' }
  const model = sparseFlux(join(folder, 'slow.safetensors'))
  for (const first of [true, false]) {
    const calls: number[] = []
    const onProgress = (progress: number) => {
      calls.push(progress)
      // while it loads, or when it is loaded
      if (first || progress === 1) throw thrown
    }
    await expect(FluxTransformer.load(model, { backend: 'cpu', onProgress })).rejects.toBe(thrown)
    if (first) expect(calls).toHaveLength(1)
    else expect(calls.indexOf(1)).toBe(calls.length - 1)
  }
})
