import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { FluxTransformer } from '../../lib/nn.js'
import { anyInput } from '../support/any-input.mjs'
import { goldenWeights } from '../support/golden.js'
import { patience } from '../support/patience.js'
import { sparseFlux } from '../support/sparse-model.js'

// Every way in which a process or a worker thread can end, each in a process of its own: the exit code is the expected one, nothing but
// Node's own message is written, and leaving does not wait for work that nobody wants any more.

vi.setConfig({ testTimeout: 180_000 })

const script = fileURLToPath(new URL('children/end.mjs', import.meta.url))
const AT_ONCE = 2000 * patience
let folder: string
let models: string[]

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-life-'))
  models = [await goldenWeights('flux-dev-tiny'), sparseFlux(join(folder, 'large.safetensors'))]
})

afterAll(() => rmSync(folder, { recursive: true }))

interface End {
  code: number | null
  signal: string | null
  stderr: string
  /** from the child's 'leaving' (or its start, where it says nothing) to its end */
  milliseconds: number
}

function end(way: string): Promise<End> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--expose-gc', script, way, ...models])
    let left = performance.now()
    let stderr = ''
    child.stdout.on('data', () => {
      left = performance.now()
    })
    child.stderr.on('data', (data) => {
      stderr += data
    })
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stderr, milliseconds: performance.now() - left }))
  })
}

/** The time on the clock is all that is known of a process that has ended: what a busy machine took of it is tried again. */
async function endsAtOnce(way: string): Promise<End> {
  let last = await end(way)
  for (let tries = 1; tries < 3 && last.milliseconds >= AT_ONCE; tries++) last = await end(way)
  return last
}

test.each([
  ['idle'],
  ['running'],
  ['closed'],
  ['closed while running'],
  ['worker terminated, running'],
  ['worker terminated, loading'],
  ['worker exits, running'],
  ['worker ends with open networks'],
  ['two workers and this thread'],
  ['forgotten'],
])('%s: ends by itself', async (way) => {
  expect(await end(way)).toMatchObject({ code: 0, signal: null, stderr: '' })
})

test.each([
  ['exit, running', 7],
  ['exit, loading', 7],
  ['exit, closing', 7],
  ['exit, workers running', 7],
  ['SIGTERM handled, running', 143],
  ['SIGINT handled, running', 130],
])('%s: leaves at once with code %i', async (way, code) => {
  const { milliseconds, ...rest } = await endsAtOnce(way)
  expect(rest).toEqual({ code, signal: null, stderr: '' })
  expect(milliseconds).toBeLessThan(AT_ONCE)
})

test.each(['error, running', 'error, loading', 'rejection, running'])('%s: leaves at once with code 1', async (way) => {
  const { milliseconds, stderr, ...rest } = await endsAtOnce(way)
  expect(rest).toEqual({ code: 1, signal: null })
  expect(stderr).toMatch(/^(file|node):.*Error: on purpose\n( +at .*\n)+\nNode\.js v[\d.]+\n$/s)
  expect(milliseconds).toBeLessThan(AT_ONCE)
})

test('signal, running: dies of the signal and of nothing else', async () => {
  expect(await end('signal, running')).toMatchObject({ code: null, signal: 'SIGTERM', stderr: '' })
})

test('two networks evaluate at the same time, each as if it were alone', async () => {
  const [path] = models as [string]
  await using a = await FluxTransformer.load(path)
  await using b = await FluxTransformer.load(path)
  const inputs = [anyInput(a, 16, 32), anyInput(b, 12, 64)] as const
  const alone = [await a.predict(inputs[0]), await b.predict(inputs[1])]
  for (let i = 0; i < 5; i++) expect(await Promise.all([a.predict(inputs[0]), b.predict(inputs[1])])).toEqual(alone)
})

test('after a shutdown every call is refused with FLUX_CLOSED, and closing is no error', async () => {
  const child = fileURLToPath(new URL('children/shutdown.mjs', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [child, await goldenWeights('t5-tiny')])
  // the first call may have ended before the shutdown came
  expect(stdout).toMatch(/^(done|FluxError FLUX_CLOSED)\nFluxError FLUX_CLOSED\nFluxError FLUX_CLOSED\ndone\n$/)
})
