import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { FluxPipeline, inspect, inspectModel, measureRoof } from '../../lib/index.js'
import { tinyModelFiles } from '../../lib/models/tiny-model.js'
import { nativeAddon } from '../../lib/native.js'
import { deviceRoof } from '../../lib/speed.js'
import { loadTiny, ONE_THREAD, randomModel, SMALL, streamed } from '../support/tiny.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-estimate-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('an estimate grows with the picture, its steps and its text, and loads nothing', async () => {
  await using pipe = await FluxPipeline.load(await randomModel(folder), { textEncoders: 'release', backend: 'cpu' })
  const { prompt: _, format: _raw, seed: _seed, ...size } = SMALL
  const small = await pipe.estimate(size)
  const wide = await pipe.estimate({ ...size, width: 128 })
  const long = await pipe.estimate({ ...size, steps: 5 })
  const wordy = await pipe.estimate({ ...size, maxSequenceLength: 128 })
  expect(wide.operations.decode).toBeGreaterThan(1.9 * small.operations.decode)
  expect(wide.operations.text).toBe(small.operations.text)
  expect(wide.memory.activations).toBeGreaterThan(small.memory.activations)
  expect(long.operations).toEqual(small.operations)
  expect(long.seconds!.total - small.seconds!.total).toBeCloseTo(4 * small.seconds!.step, 6)
  expect(wordy.operations.text).toBeGreaterThan(small.operations.text)
  expect(wordy.operations.step).toBeGreaterThan(small.operations.step)
  const { weights, activations, total } = small.memory
  expect(total).toBe(weights + activations)
})

test('after a picture its time is what is foretold', async () => {
  await using pipe = await loadTiny()
  const settings = { width: SMALL.width, height: SMALL.height, steps: 2, maxSequenceLength: 32 }
  const { timings } = await streamed(pipe, { ...settings, prompt: 'a red circle', seed: 1 })
  const { seconds } = await pipe.estimate(settings)
  expect(seconds!.text).toBeCloseTo(timings.text / 1000, 9)
  expect(seconds!.decode).toBeCloseTo(timings.decode / 1000, 9)
  expect(seconds!.step).toBeLessThan(timings.denoise / 1000)
})

test('wrong options are refused as generate refuses them', async () => {
  await using pipe = await loadTiny()
  await expect(pipe.estimate({ width: 100 })).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  expect(() => measureRoof(0)).toThrow('threads is 0')
})

test('the roof takes as much memory with many threads as with one', async () => {
  const script = `import { measureRoof } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}
    const { memory } = await measureRoof(16)
    console.log(memory, process.resourceUsage().maxRSS / 1024)`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script])
  const [memory, mebibytes] = stdout.split(' ').map(Number) as [number, number]
  expect(memory).toBeGreaterThan(1e8)
  expect(mebibytes).toBeLessThan(256 + 256)
})

test('a roof that could not be measured is a FluxError, and measured again when it is asked for next', async () => {
  const addon = nativeAddon()
  const { roof } = addon
  const known = await measureRoof(1)
  addon.roof = () => Promise.reject(new Error('FLUX_OUT_OF_MEMORY: memory ran out'))
  try {
    await expect(measureRoof(3)).rejects.toMatchObject({ name: 'FluxError', code: 'FLUX_OUT_OF_MEMORY' })
    await expect(deviceRoof('cpu', 3)).rejects.toMatchObject({ name: 'FluxError', code: 'FLUX_OUT_OF_MEMORY' })
    addon.roof = () => Promise.resolve(known)
    expect(await deviceRoof('cpu', 3)).toBe(known)
  } finally {
    addon.roof = roof
  }
})

test('the roof is in the range of processors', async () => {
  const { products, registers, cache, floats, memory } = await measureRoof(1)
  expect(['bf16-tiles', 'bf16', 'f32']).toContain(products)
  // far below any processor that runs Node 20, far above any
  for (const rate of [registers, floats, memory]) expect(rate).toBeGreaterThan(1e8)
  expect(registers).toBeLessThan(1e14)
  expect(cache).toBeLessThan(1e14)
})

// At least half of its numbers are in matrices that multiply every one of 4096 tokens, and add. The roof differs from one measurement to the next.
test('a transformer file tells how long a step will take', async () => {
  const { transformer } = await randomModel(folder)
  const { parameters, step } = await inspect(transformer)
  const { registers } = await measureRoof(availableParallelism())
  const least = (parameters * 4096) / registers
  expect(step).toBeGreaterThan(least / 2)
  expect(step).toBeLessThan(20 * least)
  expect((await inspect(tinyModelFiles().t5)).step).toBeUndefined()
})

test('a model is inspected as a whole: its files, what a picture costs, and everything that it lacks', async () => {
  const { files, problems, picture } = await inspectModel('tiny', ONE_THREAD)
  expect(files.map(({ role }) => role)).toEqual(['transformer', 't5', 'clip', 'autoencoder'])
  expect(problems).toEqual([])
  expect(files.map(({ step }) => step === undefined)).toEqual([false, true, true, true])
  // the model card's defaults
  expect(picture).toMatchObject({ width: 128, height: 128, steps: 8 })
  expect(picture!.memory.weights).toBeGreaterThan(files[0]!.size)

  const { transformer } = tinyModelFiles()
  const lacking = await inspectModel({ transformer, t5: transformer, clip: 'none.gguf', vae: transformer })
  expect(lacking.files.map(({ path }) => path)).toEqual([transformer])
  expect(lacking.problems).toHaveLength(3)
  expect(lacking).not.toHaveProperty('picture')
})
