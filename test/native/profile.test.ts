import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { AUTOENCODER, encodingFlops } from '../../lib/networks/autoencoder/definition.js'
import { CLIP } from '../../lib/networks/clip/definition.js'
import { FLUX } from '../../lib/networks/flux/definition.js'
import { T5 } from '../../lib/networks/t5/definition.js'
import { TINY_DECODER } from '../../lib/networks/taesd/definition.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder, TinyDecoder, type ProfileRow } from '../../lib/nn.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { anyInput } from '../support/any-input.mjs'
import { onTestBackend } from '../support/backend.js'
import { goldenWeights } from '../support/golden.js'
import { loadTiny, randomModel } from '../support/tiny.js'

// What the graphs count while they are evaluated, against what the layouts of the weights say: two ways to the same number. A change that does
// something twice shows here, and needs no clock.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-profile-'))
afterAll(() => rmSync(folder, { recursive: true }))
const files = await randomModel(folder)

function counted(profile: ProfileRow[]): { products: number; attention: number } {
  const sum = (...names: string[]) =>
    profile.filter(({ name }) => names.includes(name)).reduce((total, { operations }) => total + operations, 0)
  return { products: sum('linear', 'convolution'), attention: sum('attention') }
}

test.each([
  ['F32', () => goldenWeights('flux-dev-tiny')],
  ['Q8_0', async () => files.transformer],
] as const)('a transformer in %s', async (_, weights) => {
  await using flux = await FluxTransformer.load(await weights(), onTestBackend)
  const input = anyInput(flux, 12, 40)
  const plain = await flux.predict(input)
  let profiled: Float32Array | undefined
  const profile = await flux.profile(async () => (profiled = await flux.predict(input)))
  expect(profiled).toEqual(plain)
  expect(counted(profile)).toEqual(FLUX.flops(flux.config, [144, 40]))
  expect(profile.map(({ ms }) => ms)).toEqual(profile.map(({ ms }) => ms).sort((a, b) => b - a))
  for (const { count, ms, bytes } of profile) expect(Math.min(count, ms, bytes)).toBeGreaterThan(0)
})

test('several evaluations are added up', async () => {
  await using flux = await FluxTransformer.load(files.transformer, onTestBackend)
  const input = anyInput(flux, 12, 40)
  const kinds = (profile: ProfileRow[]) => profile.map(({ name, type, count }) => `${name} ${type} ${count}`).sort()
  const once = await flux.profile(() => flux.predict(input))
  const twice = await flux.profile(async () => void (await flux.predict(input), await flux.predict(input)))
  expect(kinds(twice)).toEqual(kinds(once.map((row) => ({ ...row, count: 2 * row.count }))))
  expect(counted(twice).products).toBe(2 * counted(once).products)
})

test('profiles may run at once and inside each other, and end with the error of their work', async () => {
  await using pipe = await loadTiny({ textEncoders: 'release' })
  const size = { width: 64, height: 64, steps: 2 }
  const step = (await pipe.estimate(size)).operations.step
  const image = (seed: number) => pipe.generate({ ...size, prompt: 'a red fox', seed })
  const steps = (profile: ProfileRow[]) => {
    const { products, attention } = counted(profile)
    return (products + attention) / step
  }
  // the pipeline has one queue, so the steps of both are in each that runs meanwhile
  const both = await Promise.all([pipe.profile(() => image(1)), pipe.profile(() => image(2))])
  expect(both.map(steps)).toEqual([2, 4])
  let inner: ProfileRow[] = []
  const outer = await pipe.profile(async () => {
    inner = await pipe.profile(() => image(3))
    await image(4)
  })
  expect([steps(outer), steps(inner)]).toEqual([4, 2])
  await expect(pipe.profile(() => Promise.reject(new Error('mine')))).rejects.toThrow('mine')
  for (const work of [undefined, 'x'])
    await expect(pipe.profile(work as never)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  expect(await pipe.profile(async () => {})).toEqual([])
})

test('a profile does not load the denoiser before the text encoders are released', async () => {
  await using pipe = await loadTiny({ textEncoders: 'release' })
  const stages: string[] = []
  await pipe.profile(async () => {
    for await (const event of pipe.stream({ prompt: 'a red fox', width: 64, height: 64, steps: 1 }))
      if (event.type === 'stage') stages.push(event.stage)
  })
  expect(stages).toEqual(['text', 'load', 'denoise', 'decode'])
})

test('a pipeline counts the steps that it runs', async () => {
  await using pipe = await loadTiny()
  const size = { width: 64, height: 96, steps: 3 }
  const profile = await pipe.profile(() => pipe.generate({ ...size, prompt: 'a red fox', seed: 1 }))
  const { products, attention } = counted(profile)
  expect(products + attention).toBe(3 * (await pipe.estimate(size)).operations.step)
})

test('the text encoders', async () => {
  await using t5 = await T5Encoder.load(files.t5, onTestBackend)
  expect(counted(await t5.profile(() => t5.encode(new Int32Array(48))))).toEqual(T5.flops(t5.config, [48]))
  await using clip = await ClipTextEncoder.load(files.clip, onTestBackend)
  expect(counted(await clip.profile(() => clip.encode(new Int32Array(77).fill(599))))).toEqual(
    CLIP.flops(clip.config, [77]),
  )
})

test('the encoder of images', async () => {
  const path = join(folder, 'encoder.safetensors')
  await synthesize({ architecture: 'autoencoder-tiny', path })
  await using vae = await Autoencoder.load(path, onTestBackend)
  const image = new Float32Array(3 * 48 * 80)
  expect(counted(await vae.profile(() => vae.encode(image, 48, 80)))).toEqual(encodingFlops(vae.config, [6, 10]))
})

test('the decoders', async () => {
  await using vae = await Autoencoder.load(files.vae, onTestBackend)
  const latent = new Float32Array(16 * 6 * 10)
  expect(counted(await vae.profile(() => vae.decode(latent, 6, 10)))).toEqual(AUTOENCODER.flops(vae.config, [6, 10]))

  const path = join(folder, 'taef1.safetensors')
  await synthesize({ architecture: 'taef1', path })
  await using tiny = await TinyDecoder.load(path, onTestBackend)
  expect(counted(await tiny.profile(() => tiny.decode(latent, 6, 10)))).toEqual(
    TINY_DECODER.flops(tiny.config, [6, 10]),
  )
})

// Operations per image token in the linear layers at full size: 24 and 12 hidden^2 multiplications a block, 19 and 38 blocks, hidden 3072.
test('the full-size transformer: 12.9 GFLOP a token, 6.6 TFLOP at 256 x 256', () => {
  const config = FLUX.examples['flux-schnell']!
  const [some, more] = [FLUX.flops(config, [256, 256]), FLUX.flops(config, [257, 256])]
  const token = 19 * 24 * 3072 ** 2 + 38 * 24 * 3072 ** 2 + 2 * 64 * 3072 * 2
  expect(more.products - some.products).toBe(token)
  expect((some.products + some.attention) / 1e12).toBeCloseTo(6.8, 0)
})

test('the memory that is predicted is what is then taken', async () => {
  const predicted = await FluxTransformer.activationBytes(files.transformer, 144, 40, onTestBackend)
  await using flux = await FluxTransformer.load(files.transformer, onTestBackend)
  await flux.predict(anyInput(flux, 12, 40))
  expect(flux.memory().compute).toBe(predicted)
  expect(await FluxTransformer.activationBytes(files.transformer, 576, 40, onTestBackend)).toBeGreaterThan(predicted)

  const decoding = await Autoencoder.activationBytes(files.vae, 6, 10, onTestBackend)
  await using vae = await Autoencoder.load(files.vae, onTestBackend)
  await vae.decode(new Float32Array(16 * 6 * 10), 6, 10)
  expect(vae.memory().compute).toBe(decoding)
})

test('trim frees the activations, and the next evaluation gives the same', async () => {
  await using flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'), onTestBackend)
  const input = anyInput(flux, 16, 8)
  const first = await flux.predict(input)
  expect(flux.memory().compute).toBeGreaterThan(0)
  await flux.trim()
  expect(flux.memory().compute).toBe(0)
  expect(await flux.predict(input)).toEqual(first)

  // beside a call, and after the end, it does nothing
  const running = flux.predict(input)
  await flux.trim()
  expect(await running).toEqual(first)
  expect(flux.memory().compute).toBeGreaterThan(0)
  await flux.close()
  await flux.trim()
})
