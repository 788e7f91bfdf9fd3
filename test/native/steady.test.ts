import { execFile } from 'node:child_process'
import { lookup } from 'node:dns/promises'
import { mkdtempSync, rmSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { FluxTransformer } from '../../lib/nn.js'
import { anyInput } from '../support/any-input.mjs'
import { longestStandstill } from '../support/clock.js'
import { goldenWeights } from '../support/golden.js'
import { patience } from '../support/patience.js'
import { sparseFlux } from '../support/sparse-model.js'

test.each([
  ['one shape', [6]],
  ['alternating shapes', [6, 9, 4, 12, 7]],
])('memory stays the same over 200 evaluations of %s', { timeout: 240_000 }, async (_, sides) => {
  const script = fileURLToPath(new URL('children/growth.mjs', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--expose-gc',
    script,
    await goldenWeights('flux-dev-tiny'),
    ...sides.map(String),
  ])
  const grown = Number(stdout) / 2 ** 20
  console.log(`200 evaluations, sides ${sides}: the process grew by ${grown.toFixed(2)} MiB`)
  // A sanitizer keeps freed memory in quarantine.
  expect(grown).toBeLessThan(4 * patience)
})

test('memory stays the same over 200 images', { timeout: 300_000 * patience }, async () => {
  const script = fileURLToPath(new URL('children/image-growth.mjs', import.meta.url))
  // By default glibc keeps freed memory, for each thread another amount: several MiB more or less from one image to the next.
  const env = {
    ...process.env,
    MALLOC_ARENA_MAX: '1',
    MALLOC_MMAP_THRESHOLD_: '32768',
    MALLOC_TRIM_THRESHOLD_: '65536',
  }
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script], { env })
  const [whole, arrays] = (JSON.parse(stdout) as number[]).map((bytes) => bytes / 2 ** 20) as [number, number]
  console.log(`200 images of 64 x 64: the process grew by ${whole.toFixed(2)} MiB, arrays by ${arrays.toFixed(2)} MiB`)
  // The arrays of one image: pixels 48 KiB, their bytes 12, text states 16, latents, noise and velocity 4 each.
  // If only the pixels were kept each time, in JavaScript or natively, 200 of them would be 9.4 MiB.
  expect(arrays).toBeLessThan(1)
  expect(whole).toBeLessThan(6 * patience)
})

test('the event loop is never blocked for more than 20 ms while a network evaluates', async () => {
  await using flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'))
  const input = anyInput(flux, 32, 256)
  await flux.predict(input)
  // A collection of garbage stops the loop as well: what the network does to it is the least of some tries.
  const worst: number[] = []
  for (let i = 0; i < 8 && !(Math.min(...worst) < 20); i++) {
    worst.push((await longestStandstill(() => flux.predict(input))).longest)
  }
  console.log(`longest gap of the event loop during an evaluation: ${worst.map((ms) => ms.toFixed(1)).join(', ')} ms`)
  expect(Math.min(...worst)).toBeLessThan(20 * patience)
})

test('each thread that widens float8 takes some megabytes, however large the tensors are', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ggflux-steady-'))
  try {
    const path = sparseFlux(join(folder, 'float8.safetensors'), 'F8_E4M3', { hiddenSize: 1536, numHeads: 12 })
    const script = `import { FluxTransformer } from ${JSON.stringify(new URL('../../dist/nn.js', import.meta.url).href)}
      const flux = await FluxTransformer.load(process.argv[1], { backend: 'cpu', threads: 8 })
      console.log(flux.memory().weights, process.resourceUsage().maxRSS * 1024)`
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script, path])
    const [weights, peak] = stdout.split(' ').map(Number) as [number, number]
    console.log(
      `float8: ${(weights / 2 ** 20).toFixed(0)} MiB of weights, ${((peak - weights) / 2 ** 20).toFixed(0)} MiB beside them`,
    )
    expect(weights).toBeGreaterThan(2 ** 28)
    expect(peak - weights).toBeLessThan(350 * 2 ** 20)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

// libuv's pool has four threads: were they taken, a file or a name would be answered only after one of the evaluations.
test('files and names are answered while four networks evaluate', async () => {
  const path = await goldenWeights('flux-dev-tiny')
  const networks = await Promise.all(Array.from({ length: 4 }, () => FluxTransformer.load(path, { threads: 1 })))
  const controller = new AbortController()
  let ended = 0
  const calls = networks.map((flux) =>
    flux
      .predict({ ...anyInput(flux, 64, 512), signal: controller.signal })
      .finally(() => ended++)
      .catch((error: Error) => error.message),
  )
  for (let i = 0; i < 8; i++) await Promise.all([stat(path), lookup('localhost')])
  expect(ended).toBe(0)
  controller.abort(new Error('enough'))
  expect(await Promise.all(calls)).toEqual(Array(4).fill('enough'))
  await Promise.all(networks.map((flux) => flux.close()))
})
