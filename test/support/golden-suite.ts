import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  appendRedux,
  Autoencoder,
  ClipTextEncoder,
  ClipVisionEncoder,
  FluxTransformer,
  ReduxProjector,
  SiglipVisionEncoder,
  T5Encoder,
  Upscaler,
  type NetworkOptions,
  type ReduxImage,
} from '../../lib/nn.js'
import { imageIds, packLatents } from '../../lib/families/flux1/tokens.js'
import { toBytes } from '../../lib/images/pixels.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { devCase } from './cases.js'
import { goldenErrors, goldenIo, goldenWeights } from './golden.js'
import { printErrorTable, type ErrorRow } from './parity.js'
import { relL2, readTensors } from './safetensors.js'

// F32 weights. The tolerances are those of the reference data, unless a device rounds more and has its own.
const errors = goldenErrors()
const floats = (io: ReturnType<typeof readTensors>, name: string) => io.get(name)!.data as Float32Array
/** The four networks against the reference data, on one device. `where` stands in the printed table of errors. */
export function testGolden(
  where: string,
  options: Pick<NetworkOptions, 'backend' | 'deviceMemory' | 'precision'>,
  tolerance?: number,
): void {
  const rows: ErrorRow[] = []

  function expectParity(model: string, output: string, actual: Float32Array, expected: Float32Array): void {
    const limit = tolerance ?? errors[`${model}.io.safetensors`]?.[output]?.suggested.rel_l2
    const error = relL2(actual, expected)
    rows.push([`${model} ${output}`, error, limit!])
    expect(error, output).toBeLessThanOrEqual(limit!)
  }

  afterAll(() => printErrorTable(`relative L2 of the networks against the reference, F32 weights, ${where}`, rows))

  describe.each(['flux-dev-tiny', 'flux-schnell-tiny'] as const)('%s', (model) => {
    let flux: FluxTransformer
    beforeAll(async () => {
      flux = await FluxTransformer.load(await goldenWeights(model), options)
    })
    afterAll(() => flux?.close())

    test.each(['a', 'b'])('case %s', async (name) => {
      const io = goldenIo(model)
      const prediction = await flux.predict({
        img: floats(io, `${name}.in.img`),
        imgIds: floats(io, `${name}.in.img_ids`),
        txt: floats(io, `${name}.in.txt`),
        txtIds: floats(io, `${name}.in.txt_ids`),
        vec: floats(io, `${name}.in.y`),
        timestep: floats(io, `${name}.in.timesteps`)[0]!,
        ...(io.has(`${name}.in.guidance`) ? { guidance: floats(io, `${name}.in.guidance`)[0]! } : {}),
      })
      expectParity(model, `${name}.out.pred`, prediction, floats(io, `${name}.out.pred`))
    })
  })

  test.each(['a', 'b'])('t5-tiny case %s', async (name) => {
    const io = goldenIo('t5-tiny')
    await using t5 = await T5Encoder.load(await goldenWeights('t5-tiny'), options)
    const states = await t5.encode(io.get(`${name}.in.ids`)!.data as Int32Array)
    expectParity('t5-tiny', `${name}.out.last_hidden_state`, states, floats(io, `${name}.out.last_hidden_state`))
  })

  test.each(['a', 'b', 'c'])('clip-tiny case %s', async (name) => {
    const io = goldenIo('clip-tiny')
    await using clip = await ClipTextEncoder.load(await goldenWeights('clip-tiny'), options)
    const { pooled, hidden } = await clip.encode(io.get(`${name}.in.ids`)!.data as Int32Array)
    expectParity('clip-tiny', `${name}.out.pooled`, pooled, floats(io, `${name}.out.pooled`))
    expectParity('clip-tiny', `${name}.out.last_hidden_state`, hidden, floats(io, `${name}.out.last_hidden_state`))
  })

  describe('ae-tiny', () => {
    const io = goldenIo('ae-tiny')
    let vae: Autoencoder
    beforeAll(async () => {
      vae = await Autoencoder.load(await goldenWeights('ae-tiny'), options)
    })
    afterAll(() => vae?.close())

    test.each(['dec-a', 'dec-b'])('%s', async (name) => {
      const [, , height, width] = io.get(`${name}.in.z`)!.shape as [number, number, number, number]
      const image = await vae.decode(floats(io, `${name}.in.z`), height, width)
      expectParity('ae-tiny', `${name}.out.image`, image, floats(io, `${name}.out.image`))
      const bytes = toBytes(image, 8 * width, 8 * height)
      const expected = io.get(`${name}.out.image_u8`)!.data as Uint8Array
      const apart = bytes.map((byte, i) => Math.abs(byte - expected[i]!))
      expect(Math.max(...apart)).toBeLessThanOrEqual(2)
      expect(apart.filter((d) => d === 0).length / apart.length).toBeGreaterThanOrEqual(tolerance ? 0.9 : 0.98)
    })

    test('enc-a', async () => {
      const [, , height, width] = io.get('enc-a.dbg.image_f32')!.shape as [number, number, number, number]
      const { mean, logvar } = await vae.encode(floats(io, 'enc-a.dbg.image_f32'), height, width)
      expectParity('ae-tiny', 'enc-a.out.mean', mean, floats(io, 'enc-a.out.mean'))
      expectParity('ae-tiny', 'enc-a.out.logvar', logvar, floats(io, 'enc-a.out.logvar'))
      const { scaleFactor, shiftFactor } = vae.config
      expectParity(
        'ae-tiny',
        'enc-a.out.z',
        mean.map((m) => scaleFactor * (m - shiftFactor)),
        floats(io, 'enc-a.out.z'),
      )
    })
  })

  test.each(['x4', 'x2', 'x1', 'trunk', 'old-x1', 'old-x2', 'old-x4', 'old-x8'] as const)('rrdb %s', async (name) => {
    const io = goldenIo('rrdb')
    const [, , height, width] = io.get(`${name}.in.image`)!.shape as [number, number, number, number]
    await using upscaler = await Upscaler.load(await goldenWeights(`rrdb-${name}-tiny`), options)
    const image = await upscaler.upscale(floats(io, `${name}.in.image`), height, width)
    expectParity('rrdb', `${name}.out.image`, image, floats(io, `${name}.out.image`))
  })

  const FOUR_HEADS = { numHeads: 4 }

  test('clip-vision-tiny', async () => {
    const io = goldenIo('ip-adapter')
    const source = { path: await goldenWeights('clip-vision-tiny'), config: FOUR_HEADS }
    await using clip = await ClipVisionEncoder.load(source, options)
    const embedding = await clip.encode(floats(io, 'dbg.pixels'))
    expectParity('ip-adapter', 'out.image_embeds', embedding, floats(io, 'out.image_embeds'))
  })

  describe('redux', () => {
    const io = goldenIo('redux')
    let flux: FluxTransformer
    beforeAll(async () => {
      flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'), options)
    })
    afterAll(() => flux?.close())

    test('siglip-tiny and redux-tiny', async () => {
      const source = { path: await goldenWeights('siglip-tiny'), config: FOUR_HEADS }
      await using siglip = await SiglipVisionEncoder.load(source, options)
      const states = await siglip.encode(floats(io, 'dbg.pixels'))
      expectParity('redux', 'out.last_hidden_state', states, floats(io, 'out.last_hidden_state'))
      await using redux = await ReduxProjector.load(await goldenWeights('redux-tiny'), options)
      const tokens = await redux.project(states)
      expectParity('redux', 'out.projected', tokens, floats(io, 'out.projected'))
      const { txt } = appendRedux(floats(io, 'in.txt'), [{ tokens }], flux.config.contextInDim)
      expectParity('redux', 'out.txt', txt, floats(io, 'out.txt'))
    })

    test.each<[string, Partial<ReduxImage>]>([
      ['out.pred_strength_1', {}],
      ['out.pred_strength_0.5', { strength: 0.5 }],
      ['out.pred_attn_bias_0.5', { strength: 0.5, strengthType: 'attn_bias' }],
    ])('%s', async (output, image) => {
      const [, , height, width] = io.get('in.noise')!.shape as [number, number, number, number]
      const images = [{ tokens: floats(io, 'out.projected'), ...image }]
      const prediction = await flux.predict({
        img: packLatents(floats(io, 'in.noise'), height, width),
        imgIds: imageIds(height / 2, width / 2),
        ...appendRedux(floats(io, 'in.txt'), images, flux.config.contextInDim),
        vec: floats(io, 'in.vec'),
        timestep: floats(io, 'const.timestep')[0]!,
        guidance: floats(io, 'const.guidance')[0]!,
      })
      expectParity('redux', output, prediction, floats(io, output))
    })
  })

  // Fill takes 384 channels, Canny and Depth 128: the picture's 64 and conditions. Where the conditions are zero, their weights cannot act, so
  // the golden model with a wider img_in must give the golden output.
  test.each([128, 384])('a transformer with %i input channels', async (channels) => {
    const io = goldenIo('flux-dev-tiny')
    const folder = mkdtempSync(join(tmpdir(), 'ggflux-channels-'))
    try {
      const tensors = [...readTensors(await goldenWeights('flux-dev-tiny'))].map(([name, { shape, data }]) => {
        const wide = name === 'img_in.weight'
        const values = wide ? widen(data as Float32Array, 64, channels, (i) => Math.sin(i)) : (data as Float32Array)
        return {
          name,
          type: 'F32' as const,
          shape: wide ? [shape[0]!, channels] : shape,
          data: new Uint8Array(values.buffer),
        }
      })
      const path = join(folder, 'wide.safetensors')
      await writeModelFile(path, tensors)
      await using flux = await FluxTransformer.load(path, options)
      expect(flux.config.inChannels).toBe(channels)
      const { img, ...rest } = devCase('a')
      const prediction = await flux.predict({ img: widen(img, 64, channels, () => 0), ...rest })
      expectParity('flux-dev-tiny', 'a.out.pred', prediction, floats(io, 'a.out.pred'))
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}

function widen(rows: Float32Array, from: number, to: number, fill: (i: number) => number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: (rows.length / from) * to }, (_, i) =>
    i % to < from ? rows[Math.floor(i / to) * from + (i % to)]! : fill(i),
  )
}
