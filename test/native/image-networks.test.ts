import fs from 'node:fs/promises'
import { mkdtempSync, rmSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { Flux1Files } from '../../lib/families/flux1/family.js'
import type { ModelFiles } from '../../lib/families/registry.js'
import {
  Autoencoder,
  ClipTextEncoder,
  ClipVisionEncoder,
  ReduxProjector,
  SiglipVisionEncoder,
  T5Encoder,
} from '../../lib/nn.js'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { onTestBackend } from '../support/backend.js'
import { randomModel, SMALL } from '../support/tiny.js'

// The networks that a request with images needs next to those of every request: how often they are loaded and opened, and what they take.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-image-networks-'))
afterAll(() => rmSync(folder, { recursive: true }))
afterEach(() => {
  vi.restoreAllMocks()
  syncBuiltinESMExports()
})

const [net, adapter] = [join(folder, 'controlnet.safetensors'), join(folder, 'ip-adapter.safetensors')]
let files: ModelFiles
beforeAll(async () => {
  const path = (name: string) => join(folder, `${name}.safetensors`)
  for (const [i, name] of ['siglip', 'redux', 'clip-vision', 'flux-controlnet', 'flux-ip-adapter'].entries())
    await synthesize({ architecture: `${name}-tiny`, path: path(name.replace('flux-', '')), seed: 10 + i })
  const image = { siglip: path('siglip'), redux: path('redux'), clipVision: path('clip-vision') }
  files = { ...(await randomModel(folder)), ...image }
})

const load = (textEncoders: 'keep' | 'release') => FluxPipeline.load(files, { ...onTestBackend, textEncoders })
const image = (side: number) => ({
  data: new Uint8Array(3 * side * side).map((_, i) => (i * 7) % 251),
  width: side,
  height: side,
})
const { width, height } = SMALL
const size = { width, height, steps: 1, maxSequenceLength: 16 }

test('prompt and negative prompt are encoded with one load of each text encoder', async () => {
  const spies = [vi.spyOn(T5Encoder, 'load'), vi.spyOn(ClipTextEncoder, 'load')]
  const loads = () => spies.map((spy) => spy.mock.calls.length)
  await using releasing = await load('release')
  const options = { ...SMALL, trueCfg: 2, negativePrompt: 'a whale' }
  const drawn = await releasing.generate(options)
  expect(loads()).toEqual([1, 1])
  // what is remembered is not encoded again
  expect((await releasing.generate(options)).equals(drawn)).toBe(true)
  expect(loads()).toEqual([1, 1])
  await releasing.generate({ ...options, prompt: 'a blue fox' })
  expect(loads()).toEqual([2, 2])
  await releasing.generate({ ...options, prompt: 'a whale' })
  expect(loads()).toEqual([2, 2])
  await using keeping = await load('keep')
  expect((await keeping.generate(options)).equals(drawn)).toBe(true)
})

test('several images are encoded with one load of each vision tower', async () => {
  const spies = [SiglipVisionEncoder, ReduxProjector, ClipVisionEncoder].map((network) => vi.spyOn(network, 'load'))
  await using pipe = await load('release')
  const redux = [{ image: image(40) }, { image: image(56), strength: 0.5 }]
  const ipAdapters = [
    { path: adapter, image: image(56) },
    { path: adapter, image: image(40), scale: 0.3 },
  ]
  await pipe.generate({ ...SMALL, redux, ipAdapters })
  expect(spies.map((spy) => spy.mock.calls.length)).toEqual([1, 1, 1])
})

test('the file of a ControlNet is read once in a request', async () => {
  await using pipe = await load('release')
  const opened: unknown[] = []
  const { open } = fs
  vi.spyOn(fs, 'open').mockImplementation((path, ...rest) => {
    opened.push(path)
    return open(path, ...rest)
  })
  syncBuiltinESMExports()
  const given = { path: net, image: image(64), mode: 'canny' }
  const ipAdapters = [{ path: adapter, image: image(56) }]
  const hires = { scale: 2, strength: 0.5 }
  await pipe.generate({
    ...SMALL,
    steps: 2,
    controlNets: [given, { ...given, mode: 'depth' }],
    ipAdapters,
    hires,
    count: 2,
  })
  expect(opened.filter((path) => path === net)).toHaveLength(1)
  expect(opened.filter((path) => path === adapter)).toHaveLength(1)
})

test('what encoding an image takes is predicted', async () => {
  const { siglip, redux, clipVision, vae } = files as Required<Flux1Files>
  await using tower = await SiglipVisionEncoder.load(siglip, onTestBackend)
  const states = await tower.encode(new Float32Array(3 * tower.config.imageSize ** 2))
  expect(tower.memory().compute).toBe(await SiglipVisionEncoder.activationBytes(siglip, onTestBackend))
  await using projector = await ReduxProjector.load(redux, onTestBackend)
  await projector.project(states)
  const rows = states.length / projector.config.reduxDim
  expect(projector.memory().compute).toBe(await ReduxProjector.activationBytes(redux, rows, onTestBackend))
  await using clip = await ClipVisionEncoder.load(clipVision, onTestBackend)
  await clip.encode(new Float32Array(3 * clip.config.imageSize ** 2))
  expect(clip.memory().compute).toBe(await ClipVisionEncoder.activationBytes(clipVision, onTestBackend))
  await using autoencoder = await Autoencoder.load(vae, onTestBackend)
  await autoencoder.encode(new Float32Array(3 * 48 * 80), 48, 80)
  expect(autoencoder.memory().compute).toBe(await Autoencoder.encodingBytes(vae, 48, 80, onTestBackend))
})

test('an estimate counts vision towers, and the activations of encoding', async () => {
  const { siglip, redux: projector, clipVision, vae } = files as Required<Flux1Files>
  const [redux, ipAdapters] = [[{ image: image(40) }], [{ path: adapter, image: image(40) }]]
  const opened = async (kind: string, path: string) => (await openNetworkFile(kind, path)).bytes
  const towers = (await opened('siglip', siglip)) + (await opened('redux', projector))
  const vision = (await opened('clip-vision', clipVision)) + (await opened('ip-adapter', adapter))
  await using keeping = await load('keep')
  const plain = (await keeping.estimate(size)).memory
  expect((await keeping.estimate({ ...size, redux })).memory.weights - plain.weights).toBe(towers)
  expect((await keeping.estimate({ ...size, redux, ipAdapters })).memory.weights - plain.weights).toBe(towers + vision)

  // brought to a size of about 1024 x 1024
  const { memory } = await keeping.estimate({ ...size, referenceImages: [image(96)] })
  const encoding = await Autoencoder.encodingBytes(vae, 1024, 1024, onTestBackend)
  expect(memory.activations).toBeGreaterThanOrEqual(encoding)
  expect(memory.weights).toBe(plain.weights)
  const small = await keeping.estimate({ ...size, image: image(64) })
  expect(small.memory.activations).toBeLessThan(encoding / 4)

  // loaded one by one, before the denoiser or next to it, each smaller than T5
  await using releasing = await load('release')
  const before = (await releasing.estimate(size)).memory.weights
  expect((await releasing.estimate({ ...size, redux })).memory.weights).toBe(before)
})

test('towers that stay in memory give their buffers back', async () => {
  const loads = [SiglipVisionEncoder, ReduxProjector, ClipVisionEncoder].map((network) => vi.spyOn(network, 'load'))
  await using pipe = await load('keep')
  await pipe.generate({ ...SMALL, redux: [{ image: image(40) }], ipAdapters: [{ path: adapter, image: image(40) }] })
  for (const { mock } of loads) {
    const { weights, mapped, compute } = (await mock.results[0]!.value).memory()
    expect(weights + mapped).toBeGreaterThan(0)
    expect(compute).toBe(0)
  }
})
