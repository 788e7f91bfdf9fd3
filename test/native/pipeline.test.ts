import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { toBytes } from '../../lib/images/pixels.js'
import { imageIds, packLatents, unpackLatents } from '../../lib/families/flux1/tokens.js'
import { openModel } from '../../lib/pipeline/open-model.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder, type NetworkOptions } from '../../lib/nn.js'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { denoise } from '../../lib/sampling/denoise.js'
import { gaussianNoise, gaussianNoiseStream } from '../../lib/sampling/noise.js'
import { SAMPLERS, type SamplerName } from '../../lib/sampling/samplers.js'
import { schedule } from '../../lib/sampling/schedule.js'
import type { ModelFiles } from '../../lib/families/registry.js'
import { collect } from '../support/async.js'
import { onTestBackend } from '../support/backend.js'
import { goldenErrors, goldenIo, goldenWeights } from '../support/golden.js'
import { printErrorTable, type ErrorRow } from '../support/parity.js'
import { relL2 } from '../support/safetensors.js'
import { randomModel, tokenizersOf } from '../support/tiny.js'

interface Networks {
  t5: T5Encoder
  clip: ClipTextEncoder
  flux: FluxTransformer
  vae: Autoencoder
}

async function loadNetworks({ transformer, t5, clip, vae }: ModelFiles, options: NetworkOptions): Promise<Networks> {
  return {
    t5: await T5Encoder.load(t5, options),
    clip: await ClipTextEncoder.load(clip, options),
    flux: await FluxTransformer.load(transformer, options),
    vae: await Autoencoder.load(vae, options),
  }
}

const folder = mkdtempSync(join(tmpdir(), 'ggflux-pipeline-'))
afterAll(() => rmSync(folder, { recursive: true }))
let random: Promise<ModelFiles> | undefined
const randomFiles = () => (random ??= randomModel(folder))

const closeNetworks = (networks: Networks | undefined) =>
  Promise.all(Object.values(networks ?? {}).map((network) => network.close()))

describe('the whole way against the reference: pipeline-dev-tiny, F32 weights', () => {
  const io = goldenIo('pipeline-dev-tiny')
  const errors = goldenErrors()['pipeline-dev-tiny.io.safetensors']!
  const floats = (name: string) => io.get(name)!.data as Float32Array
  const [rows, columns] = io.get('in.noise')!.shape.slice(2) as [number, number]
  const table: ErrorRow[] = []
  let networks: Networks
  /** what the networks made so far, each from our own results before it */
  const ours: { txt?: Float32Array; vec?: Float32Array; latents?: Float32Array; rgb?: Uint8Array } = {}

  function expectParity(name: string, actual: Float32Array): void {
    const limit = errors[name]!.suggested.rel_l2!
    const error = relL2(actual, floats(name))
    table.push([name, error, limit])
    expect(error, name).toBeLessThanOrEqual(limit)
  }

  beforeAll(async () => {
    const files = {
      transformer: await goldenWeights('flux-dev-tiny'),
      t5: await goldenWeights('t5-tiny'),
      clip: await goldenWeights('clip-tiny'),
      vae: await goldenWeights('ae-tiny'),
    }
    networks = await loadNetworks(files, onTestBackend)
  })
  afterAll(async () => {
    printErrorTable('relative L2 of the pipeline against the reference, F32 weights', table)
    await closeNetworks(networks)
  })

  test('text encoders', async () => {
    ours.txt = await networks.t5.encode(io.get('in.t5_ids')!.data as Int32Array)
    ours.vec = (await networks.clip.encode(io.get('in.clip_ids')!.data as Int32Array)).pooled
    expectParity('out.txt', ours.txt)
    expectParity('out.vec', ours.vec)
  })

  test('noise to latents, every step', async () => {
    const img = packLatents(floats('in.noise'), rows, columns)
    const imgIds = imageIds(rows / 2, columns / 2)
    expect(img).toEqual(floats('dbg.img_packed'))
    expect(imgIds).toEqual(floats('dbg.img_ids'))
    const sigmas = schedule({ steps: 4, sequenceLength: (rows * columns) / 4 })
    const expected = floats('out.timesteps')
    expect(sigmas).toHaveLength(expected.length)
    sigmas.forEach((sigma, i) =>
      expect(Math.abs(sigma - expected[i]!)).toBeLessThanOrEqual(errors['out.timesteps']!.suggested.max_abs!),
    )

    const predict = async (x: Float32Array, timestep: number) => {
      const velocity = await networks.flux.predict({
        img: x,
        imgIds,
        txt: ours.txt!,
        vec: ours.vec!,
        timestep,
        guidance: floats('const.guidance')[0]!,
      })
      expectParity(`dbg.pred.${sigmas.indexOf(timestep)}`, velocity)
      return velocity
    }
    for await (const { step, latents } of denoise({ predict, latents: img, sigmas })) {
      expectParity(`out.latents.${step - 1}`, latents)
      ours.latents = latents
    }
    expect(table.filter(([name]) => name.startsWith('out.latents.'))).toHaveLength(4)
  })

  test('latents to bytes', async () => {
    const latent = unpackLatents(ours.latents!, rows, columns)
    expectParity('out.latents_unpacked', latent)
    const image = await networks.vae.decode(latent, rows, columns)
    expectParity('out.image', image)
    ours.rgb = toBytes(image, 8 * columns, 8 * rows)
    expectBytes(ours.rgb, io.get('out.image_u8')!.data as Uint8Array)
  })

  test('the picture of the reference shows these bytes', async () => {
    const file = readFileSync(fileURLToPath(new URL('../golden/pipeline-dev-tiny.png', import.meta.url)))
    const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true })
    expect([info.width, info.height, info.channels]).toEqual([128, 96, 3])
    expectBytes(ours.rgb!, new Uint8Array(data))
  })

  function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
    const { max_abs: most, min_equal_fraction: least } = errors['out.image_u8']!.suggested
    const apart = Array.from(expected, (byte, i) => Math.abs(byte - actual[i]!))
    expect(apart).toHaveLength(actual.length)
    expect(apart.reduce((a, b) => Math.max(a, b))).toBeLessThanOrEqual(most!)
    expect(apart.filter((d) => d === 0).length / apart.length).toBeGreaterThanOrEqual(least!)
  }
})

describe.each<[string, () => Promise<ModelFiles>, boolean]>([
  ['with guidance', randomFiles, true],
  [
    'without guidance',
    async () => ({ ...(await randomFiles()), transformer: await goldenWeights('flux-schnell-tiny') }),
    false,
  ],
])('FluxPipeline equals its public parts, byte for byte: %s', (_, filesOf, guided) => {
  let pipe: FluxPipeline
  let networks: Networks
  let tokenizers: ReturnType<typeof tokenizersOf>
  beforeAll(async () => {
    const files = await filesOf()
    pipe = await FluxPipeline.load({ ...files, ...onTestBackend })
    networks = await loadNetworks(files, onTestBackend)
    tokenizers = tokenizersOf(await openModel(files))
  })
  afterAll(async () => {
    await pipe?.close()
    await closeNetworks(networks)
  })

  /** the options spelt out: every default as documented */
  interface Spelt {
    width: number
    height: number
    sigmas: number[]
    guidance: number
    seed: number
    noise: 'float32' | 'bfloat16'
    sampler: SamplerName
    tokens: number
  }

  async function byHand(
    prompt: string,
    { width, height, sigmas, guidance, seed, noise: variant, sampler, tokens }: Spelt,
  ): Promise<Uint8Array> {
    const { ids, eos } = tokenizers.clip.encode(prompt)
    const txt = await networks.t5.encode(tokenizers.t5.encode(prompt, tokens).ids)
    const { pooled: vec } = await networks.clip.encode(ids, { eos })
    const [rows, columns] = [height / 8, width / 8]
    const imgIds = imageIds(rows / 2, columns / 2)
    const predict = (img: Float32Array, timestep: number) =>
      networks.flux.predict({ img, imgIds, txt, vec, timestep, ...(guided ? { guidance } : {}) })
    let latents = packLatents(gaussianNoise(seed, [16, rows, columns], variant), rows, columns)
    const draw = gaussianNoiseStream(seed + 1, [16, rows, columns], variant)
    const noise = () => packLatents(draw(), rows, columns)
    for await (const step of denoise({ predict, latents, sigmas, noise, sampler: SAMPLERS[sampler] }))
      latents = step.latents
    return toBytes(await networks.vae.decode(unpackLatents(latents, rows, columns), rows, columns), width, height)
  }

  const sized = { width: 64, height: 64, steps: 2, seed: 7, maxSequenceLength: 32 }
  const spelt: Spelt = {
    width: 64,
    height: 64,
    sigmas: schedule({ steps: 2, sequenceLength: 16, shift: guided }),
    guidance: 3.5,
    seed: 7,
    noise: 'float32',
    sampler: 'euler',
    tokens: 32,
  }
  const cases: [string, Partial<GenerateOptions>, Partial<Spelt>][] = [
    ['defaults', {}, {}],
    ['a large seed', { seed: 2 ** 40 + 9 }, { seed: 9 }],
    ['sigmas', { sigmas: [1, 0.7, 0.2] }, { sigmas: [1, 0.7, 0.2, 0] }],
    ['the other shift', { shift: !guided }, { sigmas: schedule({ steps: 2, sequenceLength: 16, shift: !guided }) }],
    ['the linear scheduler', { scheduler: 'linear' }, { sigmas: [1, 0.5, 0] }],
    ['bfloat16 noise', { noise: 'bfloat16' }, { noise: 'bfloat16' }],
    ['a sampler with noise', { sampler: 'lcm' }, { sampler: 'lcm' }],
    [
      'a sampler with bfloat16 noise',
      { sampler: 'er_sde', noise: 'bfloat16' },
      { sampler: 'er_sde', noise: 'bfloat16' },
    ],
    [
      'a sampler that takes other levels',
      { sampler: 'dpm_2' },
      { sampler: 'dpm_2', sigmas: schedule({ steps: 3, sequenceLength: 16, shift: guided }).toSpliced(2, 1) },
    ],
    ['fewer tokens', { maxSequenceLength: 16 }, { tokens: 16 }],
    [
      'a wide picture',
      { width: 160, height: 80, steps: 3 },
      { width: 160, height: 80, sigmas: schedule({ steps: 3, sequenceLength: 50, shift: guided }) },
    ],
    ...(guided
      ? ([['guidance', { guidance: 8.25 }, { guidance: 8.25 }]] as [string, Partial<GenerateOptions>, Partial<Spelt>][])
      : []),
  ]

  test.each(cases)('%s', async (_, options, different) => {
    const prompt = 'a red circle and a blue square'
    const picture = await pipe.generate({ prompt, ...sized, ...options, format: 'raw' })
    const expected = await byHand(prompt, { ...spelt, ...different })
    expect(Buffer.compare(picture, expected)).toBe(0)
    expect(new Set(picture).size, 'more than a plain colour').toBeGreaterThan(16)
  })

  test('without options: the documented steps, size and tokens', async () => {
    const events = await collect(pipe.stream({ prompt: 'a fox', seed: 3, width: 64, height: 64, format: 'raw' }))
    const steps = guided ? 28 : 4
    const sigmas = schedule({ steps, sequenceLength: 16, shift: guided })
    const seen = events.filter((event) => event.type === 'step')
    expect(seen.map(({ step, sigma, sigmaNext }) => [step, sigma, sigmaNext])).toEqual(
      Array.from({ length: steps }, (_, i) => [i + 1, sigmas[i], sigmas[i + 1]]),
    )
    const expected = await byHand('a fox', { ...spelt, seed: 3, sigmas, tokens: guided ? 512 : 256 })
    const image = events.at(-1)!
    expect(image.type === 'image' && Buffer.compare(image.image, expected)).toBe(0)
  })
})
