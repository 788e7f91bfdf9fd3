import { mkdirSync, mkdtempSync, copyFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { locateModelFiles } from '../../lib/model/locate.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { TinyDecoder } from '../../lib/nn.js'
import { collect } from '../support/async.js'
import { onTestBackend } from '../support/backend.js'
import { rewrite } from '../support/dialects.js'
import { goldenValues } from '../support/golden.js'
import { readTensors, relL2, type Tensor } from '../support/safetensors.js'
import { loadTiny, SMALL } from '../support/tiny.js'

// The reference: madebyollin/taesd's decoder, written out pixel by pixel.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-taef1-'))
afterAll(() => rmSync(folder, { recursive: true }))

const path = join(folder, 'taef1.safetensors')
const WIDTH = 16
beforeAll(async () => {
  await synthesize({ architecture: 'taef1', config: { width: WIDTH }, type: 'F32', seed: 5, path })
})

type Image = { data: Float32Array; channels: number; height: number; width: number }

function convolution({ data, channels, height, width }: Image, weight: Tensor, bias?: Tensor): Image {
  const out = weight.shape[0]!
  const result = new Float32Array(out * height * width)
  for (let o = 0; o < out; o++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = bias ? Number(bias.data[o]) : 0
        for (let c = 0; c < channels; c++) {
          for (let dy = -1; dy <= 1; dy++) {
            for (let dx = -1; dx <= 1; dx++) {
              if (y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width) continue
              sum +=
                data[(c * height + y + dy) * width + x + dx]! *
                Number(weight.data[((o * channels + c) * 3 + dy + 1) * 3 + dx + 1])
            }
          }
        }
        result[(o * height + y) * width + x] = sum
      }
    }
  }
  return { data: result, channels: out, height, width }
}

const each = (image: Image, change: (value: number, i: number) => number): Image => ({
  ...image,
  data: image.data.map(change),
})
const relu = (image: Image): Image => each(image, (value) => Math.max(0, value))

function doubled({ data, channels, height, width }: Image): Image {
  const result = new Float32Array(4 * data.length)
  for (let i = 0; i < result.length; i++) {
    const [x, y, c] = [
      i % (2 * width),
      Math.floor(i / (2 * width)) % (2 * height),
      Math.floor(i / (4 * width * height)),
    ]
    result[i] = data[(c * height + (y >> 1)) * width + (x >> 1)]!
  }
  return { data: result, channels, height: 2 * height, width: 2 * width }
}

/** Clamp, convolution, ReLU, three times (three blocks, upsampling, convolution without bias), block, convolution; from 0 to 1, here from -1. */
function decoded(tensors: Map<string, Tensor>, latent: Image): Float32Array {
  const at = (name: string) => tensors.get(`decoder.layers.${name}`)
  const layer = (image: Image, name: string) => convolution(image, at(`${name}.weight`)!, at(`${name}.bias`))
  const block = (image: Image, i: number) => {
    const inside = layer(relu(layer(relu(layer(image, `${i}.conv.0`)), `${i}.conv.2`)), `${i}.conv.4`)
    return relu(each(inside, (value, j) => value + image.data[j]!))
  }
  let x = relu(
    layer(
      each(latent, (value) => 3 * Math.tanh(value / 3)),
      '0',
    ),
  )
  for (const first of [2, 7, 12])
    x = layer(doubled(block(block(block(x, first), first + 1), first + 2)), String(first + 4))
  return layer(block(x, 17), '18').data.map((value) => 2 * value - 1)
}

const latent = new Float32Array(16 * 4 * 6)
goldenValues(latent, { seed: 3, mean: 0, scale: 1e-4 })

test('decodes as its definition says', async () => {
  await using decoder = await TinyDecoder.load(path, onTestBackend)
  expect(decoder.config).toEqual({ zChannels: 16, width: WIDTH })
  const expected = decoded(readTensors(path), { data: latent, channels: 16, height: 4, width: 6 })
  const actual = await decoder.decode(latent, 4, 6)
  expect(expected.some((value) => Math.abs(value) > 0.05)).toBe(true)
  expect(relL2(actual, expected)).toBeLessThan(1e-5)
})

test("in its author's names it is the same", async () => {
  const official = await rewrite(path, join(folder, 'taef1_decoder.safetensors'), (name, tensor) => [
    [name.replace(/^decoder\.layers\.(\d+)/, (_, layer: string) => String(Number(layer) + 1)), tensor],
  ])
  await using one = await TinyDecoder.load(path, onTestBackend)
  await using other = await TinyDecoder.load(official, onTestBackend)
  expect(await other.decode(latent, 4, 6)).toEqual(await one.decode(latent, 4, 6))
})

test('wrong sizes are refused', async () => {
  await using decoder = await TinyDecoder.load(path, onTestBackend)
  await expect(decoder.decode(latent, 4, 5)).rejects.toMatchObject({ code: 'FLUX_BAD_SHAPE' })
  await expect(decoder.decode(latent, 0, 6)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
})

test('previews of a pipeline, which change nothing of the picture', { timeout: 60_000 }, async () => {
  const preview = { method: 'taef1' } as const
  await using pipe = await loadTiny()
  await expect(collect(pipe.stream({ ...SMALL, preview }))).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: expect.stringMatching(/no previewDecoder/) as string,
  })
  const { FluxPipeline } = await import('../../lib/pipeline/pipeline.js')
  await using shown = await FluxPipeline.load({
    ...tinyModelFiles(),
    previewDecoder: path,
    ...onTestBackend,
  })
  const events = await collect(shown.stream({ ...SMALL, preview }))
  const step = events.find((event) => event.type === 'step')!
  expect(step).toMatchObject({ preview: { width: 64, height: 64 } })
  expect(new Set((step as { preview: { data: Buffer } }).preview.data).size).toBeGreaterThan(4)
  expect((events.at(-1) as { image: Buffer }).image.equals(await pipe.generate(SMALL))).toBe(true)
})

test('is found in the folder where ComfyUI has it; one of another model is refused', async () => {
  const { transformer, t5, clip, vae } = tinyModelFiles()
  const place = join(folder, 'models')
  mkdirSync(join(place, 'vae_approx'), { recursive: true })
  for (const [name, file] of Object.entries({
    'transformer.gguf': transformer,
    't5.gguf': t5,
    'clip.gguf': clip,
    'vae.safetensors': vae,
  }))
    copyFileSync(file, join(place, name))
  copyFileSync(path, join(place, 'vae_approx/taef1_decoder.safetensors'))
  expect(await locateModelFiles(place)).toMatchObject({
    previewDecoder: join(place, 'vae_approx/taef1_decoder.safetensors'),
  })
  const other = join(folder, 'taesd.safetensors')
  await synthesize({ architecture: 'taef1', config: { width: WIDTH, zChannels: 4 }, type: 'F32', seed: 5, path: other })
  const { openModel } = await import('../../lib/pipeline/open-model.js')
  await expect(openModel({ ...tinyModelFiles(), previewDecoder: other })).rejects.toMatchObject({
    code: 'FLUX_BAD_FILE',
    message: expect.stringMatching(/takes 4 channels, and the transformer gives 16/) as string,
  })
})
