import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { convert, FluxPipeline, inspect, inspectModel, measurePeak } from '../../lib/index.js'
import type { ModelFiles } from '../../lib/families/registry.js'
import { openModelFile } from '../../lib/formats/open.js'
import { encodingFlops } from '../../lib/networks/autoencoder/definition.js'
import { CONTROLNET } from '../../lib/networks/controlnet/definition.js'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { toFloat8 } from '../support/float8.js'
import { readTensors } from '../support/safetensors.js'
import { nativeAddon } from '../../lib/native/addon.js'
import { devicePeak } from '../../lib/cost/cost-model.js'
import { loadTiny, randomModel, SMALL, streamed } from '../support/tiny.js'

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
  // two evaluations in each step but the last
  const heun = await pipe.estimate({ ...size, steps: 5, sampler: 'heun' })
  expect(heun.operations).toEqual(small.operations)
  expect(heun.seconds!.total - long.seconds!.total).toBeCloseTo(4 * small.seconds!.step, 6)
  expect(wordy.operations.text).toBeGreaterThan(small.operations.text)
  expect(wordy.operations.step).toBeGreaterThan(small.operations.step)
  const { weights, activations, total } = small.memory
  expect(total).toBe(weights + activations)
})

test('images cost what encodes them, and a ControlNet its share of the steps', async () => {
  const files = await randomModel(folder)
  await using pipe = await FluxPipeline.load(files, { textEncoders: 'release', backend: 'cpu' })
  const path = join(folder, 'controlnet.safetensors')
  await synthesize({ architecture: 'flux-controlnet-tiny', path, seed: 7 })
  const { width, height } = SMALL
  const size = { width, height, steps: 2, maxSequenceLength: 32 }
  const image = { data: new Uint8Array(3 * width * height), width, height }
  const text = await pipe.estimate(size)
  expect(text.operations.encode).toBe(0)
  const start = await pipe.estimate({ ...size, image })
  const vae = await openNetworkFile('autoencoder', files.vae)
  const encoding = encodingFlops(vae.config, [height / 8, width / 8])
  expect(start.operations.encode).toBe(encoding.products + encoding.attention)
  expect(start.operations.step).toBe(text.operations.step)
  const guided = (net: object) => pipe.estimate({ ...size, controlNets: [{ path, image, mode: 'canny', ...net }] })
  const { config, bytes } = await openNetworkFile('controlnet', path)
  const { products, attention } = CONTROLNET.flops(config, [(width * height) / 256, 32])
  const [whole, half, off] = [await guided({}), await guided({ end: 0.5 }), await guided({ scale: 0 })]
  expect(whole.operations.step - text.operations.step).toBe(products + attention)
  expect(half.operations.step - text.operations.step).toBe((products + attention) / 2)
  expect(off.operations.step).toBe(text.operations.step)
  expect(whole.operations.encode).toBe(start.operations.encode)
  expect(whole.memory.activations).toBeGreaterThanOrEqual(text.memory.activations)
  const { seconds } = whole
  expect(seconds!.total).toBeCloseTo(
    seconds!.text + seconds!.encode + seconds!.step + seconds!.step + seconds!.decode,
    9,
  )
  await pipe.generate({ ...size, prompt: '', seed: 1 })
  const [plain, controlled] = [await pipe.estimate(size), await guided({})]
  expect(controlled.memory.weights - plain.memory.weights).toBe(bytes)
})

/** One GGUF file with the tensors of several, each behind its prefix. */
async function checkpoint(path: string, parts: [prefix: string, file: string][]): Promise<string> {
  const sources: TensorSource[] = []
  for (const [prefix, file] of parts) {
    const bytes = readFileSync(file)
    for (const { name, type, shape, offset, byteLength } of (await openModelFile(file)).tensors.values()) {
      sources.push({ name: prefix + name, type, shape, data: bytes.subarray(offset, offset + byteLength) })
    }
  }
  await writeModelFile(path, sources)
  return path
}

test('a checkpoint of all networks is counted once', async () => {
  const { transformer, t5, clip, vae } = tinyModelFiles()
  const [flux, encoder, pooled, autoencoder] = ['flux', 't5', 'clip', 'vae'].map((name) =>
    join(folder, `official-${name}.safetensors`),
  ) as [string, string, string, string]
  await convert(transformer, flux, { type: 'F16' })
  await convert(t5, encoder, { type: 'F16' })
  await convert(clip, pooled, { type: 'F16' })
  await convert(vae, autoencoder, { type: 'F16' })
  const all = await checkpoint(join(folder, 'all.gguf'), [
    ['model.diffusion_model.', flux],
    ['text_encoders.t5xxl.transformer.', encoder],
    ['text_encoders.clip_l.transformer.', pooled],
    ['vae.', autoencoder],
  ])
  const tokenizers = { t5, clip: dirname(clip) }
  for (const textEncoders of ['keep', 'release'] as const) {
    const weights = async (model: ModelFiles) => {
      await using pipe = await FluxPipeline.load({ ...model, tokenizers }, { ...onTestBackend, textEncoders })
      return (await pipe.estimate({ width: 64, height: 64 })).memory.weights
    }
    const once = await weights({ transformer: flux, t5: encoder, clip: pooled, vae: autoencoder })
    expect(await weights({ transformer: all, t5: all, clip: all, vae: all })).toBe(once)
  }
})

// What the native side holds when it has loaded them; a kernel's own layout takes a little more.
test('the bytes that are predicted of a network are those that it then takes', async () => {
  const { transformer, t5, clip, vae } = tinyModelFiles()
  const [half, f8, whole] = [
    join(folder, 'vae-f16.safetensors'),
    join(folder, 'flux-f8.safetensors'),
    join(folder, 't5-whole.gguf'),
  ]
  await convert(vae, half, { type: 'F16' })
  await convert(transformer, join(folder, 'flux-f32.safetensors'), { type: 'F32' })
  await writeModelFile(
    f8,
    [...readTensors(join(folder, 'flux-f32.safetensors'))].map(([name, { shape, data }]) => ({
      name,
      shape,
      type: 'F8_E4M3',
      data: toFloat8('F8_E4M3', data as Float32Array).codes,
    })),
  )
  await writeModelFile(join(folder, 'decoder.gguf'), [
    {
      name: 'decoder.block.0.layer.0.SelfAttention.q.weight',
      type: 'F32',
      shape: [512, 512],
      data: new Uint8Array(2 ** 20),
    },
  ])
  await checkpoint(whole, [
    ['', t5],
    ['', join(folder, 'decoder.gguf')],
  ])
  const networks = [
    [FluxTransformer, 'flux', transformer],
    [FluxTransformer, 'flux', f8],
    [T5Encoder, 't5', t5],
    [T5Encoder, 't5', whole],
    [ClipTextEncoder, 'clip', clip],
    [Autoencoder, 'autoencoder', vae],
    [Autoencoder, 'autoencoder', half],
  ] as const
  for (const [Network, kind, path] of networks) {
    const { bytes } = await openNetworkFile(kind, path)
    await using network = await Network.load(path, onTestBackend)
    const { weights, mapped } = network.memory()
    expect((weights + mapped) / bytes, `${kind} ${path}`).toBeGreaterThan(0.99)
    expect((weights + mapped) / bytes, `${kind} ${path}`).toBeLessThan(1.02)
  }
})

test('after a picture its time is what is predicted', async () => {
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
  expect(() => measurePeak(0)).toThrow('threads is 0')
})

test('the peak takes as much memory with many threads as with one', async () => {
  const script = `import { measurePeak } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}
    const { memory } = await measurePeak(16)
    console.log(memory, process.resourceUsage().maxRSS / 1024)`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script])
  const [memory, mebibytes] = stdout.split(' ').map(Number) as [number, number]
  expect(memory).toBeGreaterThan(1e8)
  expect(mebibytes).toBeLessThan(256 + 256)
})

test('a peak that could not be measured is a FluxError, and measured again when it is asked for next', async () => {
  const addon = nativeAddon()
  const { peak } = addon
  const known = await measurePeak(1)
  addon.peak = () => Promise.reject(new Error('FLUX_OUT_OF_MEMORY: memory ran out'))
  try {
    await expect(measurePeak(3)).rejects.toMatchObject({ name: 'FluxError', code: 'FLUX_OUT_OF_MEMORY' })
    await expect(devicePeak('cpu', 3)).rejects.toMatchObject({ name: 'FluxError', code: 'FLUX_OUT_OF_MEMORY' })
    addon.peak = () => Promise.resolve(known)
    expect(await devicePeak('cpu', 3)).toBe(known)
  } finally {
    addon.peak = peak
  }
})

test('the peak is in the range of processors', async () => {
  const { products, registers, cache, floats, memory } = await measurePeak(1)
  expect(['bf16-tiles', 'bf16', 'f32']).toContain(products)
  // far below any processor that runs Node 20, far above any
  for (const rate of [registers, floats, memory]) expect(rate).toBeGreaterThan(1e8)
  expect(registers).toBeLessThan(1e14)
  expect(cache).toBeLessThan(1e14)
})

// At least half of its numbers are in matrices that multiply every one of 4096 tokens, and add. The peak differs from one measurement to the next.
test('a transformer file tells how long a step will take', async () => {
  const { transformer } = await randomModel(folder)
  const { parameters, step } = await inspect(transformer)
  const { registers } = await measurePeak(availableParallelism())
  const least = (parameters * 4096) / registers
  expect(step).toBeGreaterThan(least / 2)
  expect(step).toBeLessThan(20 * least)
  expect((await inspect(tinyModelFiles().t5)).step).toBeUndefined()
})

test('a model is inspected as a whole: its files, what a picture costs, and everything that it lacks', async () => {
  const { files, problems, image } = await inspectModel('tiny', onTestBackend)
  expect(files.map(({ role }) => role)).toEqual(['transformer', 't5', 'clip', 'autoencoder'])
  expect(problems).toEqual([])
  expect(files.map(({ step }) => step === undefined)).toEqual([false, true, true, true])
  // the model card's defaults
  expect(image).toMatchObject({ width: 128, height: 128, steps: 8 })
  expect(image!.memory.weights).toBeGreaterThan(files[0]!.size)

  const { transformer } = tinyModelFiles()
  const lacking = await inspectModel({ transformer, t5: transformer, clip: 'none.gguf', vae: transformer })
  expect(lacking.files.map(({ path }) => path)).toEqual([transformer])
  expect(lacking.problems).toHaveLength(3)
  expect(lacking).not.toHaveProperty('image')
})

test('a file in a folder that is no part of the model is a problem only where a part is missing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ggflux-stray-'))
  cpSync(dirname(tinyModelFiles().t5), folder, { recursive: true, filter: (path) => !path.endsWith('train') })
  writeFileSync(join(folder, 'other.safetensors'), '')
  expect((await inspectModel(folder)).problems).toEqual([])
  rmSync(join(folder, 'vae.safetensors'))
  expect((await inspectModel(folder)).problems).toEqual([
    expect.stringMatching(/holds no vae.*other.safetensors: the file is empty/s),
  ])
  rmSync(folder, { recursive: true })
})
