import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addModelOptions, resolveModel } from '../../lib/cli/model-options.js'
import { imageIds } from '../../lib/families/flux1/tokens.js'
import { registerFamily, type ModelFiles } from '../../lib/families/registry.js'
import { isOnHub } from '../../lib/hub/plan.js'
import { inspectModel } from '../../lib/inspect/model.js'
import { toBytes } from '../../lib/images/pixels.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { locateModelFiles } from '../../lib/model/locate.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer } from '../../lib/nn.js'
import { ImagePipeline } from '../../lib/pipeline/pipeline.js'
import { gaussianNoise } from '../../lib/sampling/noise.js'
import { ClipTokenizer } from '../../lib/tokenizers/clip.js'
import { syntheticClipVocabulary } from '../../lib/tokenizers/synthetic.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { collect } from '../support/async.js'
import { onTestBackend } from '../support/backend.js'
import { SMALL } from '../support/tiny.js'
import { TOY_LATENT, toyFamily } from '../support/toy-family/family.js'

// A family that lib/ knows nothing of: that it can be loaded and draws is what the seam between pipeline and families is for.
registerFamily(toyFamily)

let folder: string
let files: { unet: string; clip: string; vae: string }
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-toy-'))
  const path = (name: string) => join(folder, name)
  files = { unet: path('unet.safetensors'), clip: path('clip.safetensors'), vae: path('vae.safetensors') }
  const blocks = { depth: 1, depthSingleBlocks: 1, guidanceEmbed: false }
  const shape = { inChannels: 4, outChannels: 4, contextInDim: 128, vecInDim: 128 }
  await synthesize({
    architecture: 'flux-tiny',
    type: 'F16',
    seed: 1,
    path: files.unet,
    config: { ...blocks, ...shape },
  })
  await synthesize({ architecture: 'clip-tiny', type: 'F16', seed: 2, path: files.clip })
  const levels = { zChannels: 4, chMult: [1, 2, 4] }
  await synthesize({ architecture: 'autoencoder-tiny', type: 'F16', seed: 3, path: files.vae, config: levels })
  const { vocab, merges } = syntheticClipVocabulary(600)
  writeFileSync(path('vocab.json'), JSON.stringify(vocab))
  writeFileSync(path('merges.txt'), merges.join('\n'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const toyFiles = () => files as object as ModelFiles
const PICTURE = { prompt: 'a red fox', seed: 5, format: 'raw' } as const

/** its image, from the networks alone */
async function byHand(width: number, height: number): Promise<Uint8Array> {
  await using unet = await FluxTransformer.load(files.unet, onTestBackend)
  await using clip = await ClipTextEncoder.load(files.clip, onTestBackend)
  const config = { scaleFactor: TOY_LATENT.scale, shiftFactor: TOY_LATENT.shift }
  await using vae = await Autoencoder.load({ path: files.vae, config }, onTestBackend)
  const { ids, eos } = (await ClipTokenizer.load(folder)).encode(PICTURE.prompt)
  const { hidden: txt, pooled: vec } = await clip.encode(ids, { eos })
  const [rows, columns] = [height / 4, width / 4]
  const noise = gaussianNoise(PICTURE.seed, [1, 4, rows, columns])
  let img = noise.map((_, i) => noise[(i % 4) * rows * columns + Math.floor(i / 4)]!)
  const sigmas = [1, (2 / 3) ** 2, (1 / 3) ** 2, 0]
  for (const [i, sigma] of sigmas.slice(0, 3).entries()) {
    const image = await unet.predict({ img, imgIds: imageIds(rows, columns), txt, vec, timestep: sigma })
    const direction = img.map((value, j) => (value - image[j]!) / sigma)
    img = img.map((value, j) => value + (sigmas[i + 1]! - sigma) * direction[j]!)
  }
  const latent = img.map((_, i) => img[(i % (rows * columns)) * 4 + Math.floor(i / (rows * columns))]!)
  return toBytes(await vae.decode(latent, rows, columns), width, height)
}

test('a family from outside draws what its networks give by hand, with previews', async () => {
  const warnings: string[] = []
  process.once('warning', ({ message }) => warnings.push(message))
  await using pipe = await ImagePipeline.load(toyFiles(), { ...onTestBackend, textEncoders: 'keep' })
  const events = await collect(pipe.stream({ ...PICTURE, preview: {} }))
  const kinds = events.map((event) => (event.type === 'stage' ? event.stage : event.type))
  expect(kinds).toEqual(['text', 'denoise', 'step', 'step', 'step', 'decode', 'image'])
  expect(events[2]).toMatchObject({ preview: { width: 18, height: 16 } })
  expect(events.at(-1)).toMatchObject({ width: 72, height: 64, truncated: [] })
  const { image } = events.at(-1) as { image: Buffer }
  expect(new Set(image).size, 'an image, not one colour').toBeGreaterThan(16)
  expect(image.equals(await byHand(72, 64))).toBe(true)
  expect(warnings).toEqual(['the toy family draws noise'])
})

test('its own rules hold: sizes, guidance, preview decoders, what fits together', async () => {
  await using pipe = await ImagePipeline.load(toyFiles(), { ...onTestBackend, textEncoders: 'release' })
  await expect(pipe.generate({ ...PICTURE, width: 70 })).rejects.toThrow('a multiple of 4 from 64')
  await expect(pipe.generate({ ...PICTURE, guidance: 3 })).rejects.toThrow('without guidance')
  expect(() => pipe.stream({ ...PICTURE, preview: { method: 'taef1' } })).toThrow('one of linear, autoencoder')
  const other = join(folder, 'other', 'clip.safetensors')
  mkdirSync(join(folder, 'other'))
  await synthesize({ architecture: 'clip-tiny', path: other, config: { hiddenSize: 256, intermediateSize: 1024 } })
  const wrong = { ...files, clip: other, tokenizers: { clip: folder } } as object as ModelFiles
  await expect(ImagePipeline.load(wrong)).rejects.toThrow(`${other} does not go with ${files.unet}`)
  const half = { unet: files.unet, vae: files.vae } as object as ModelFiles
  await expect(ImagePipeline.load(half)).rejects.toThrow('A model needs unet, clip, vae')
})

test('it is known in folders, in inspections and estimates, on the command line and among the presets', async () => {
  expect(await locateModelFiles(folder)).toEqual(files)
  const { problems, image } = await inspectModel(folder)
  expect(problems).toEqual([])
  expect(image).toMatchObject({ width: 72, height: 64, steps: 3 })
  expect(image!.memory.activations).toBeGreaterThan(0)
  const help = addModelOptions(new Command()).helpInformation()
  expect(help).toMatch(/--unet <file> +the denoiser of the toy family/)
  expect(help).toMatch(/--t5 <file>/)
  expect(await resolveModel(files)).toEqual(files)
  await expect(resolveModel({ unet: files.unet })).rejects.toThrow(
    '--clip, --vae missing: give --unet, --clip and --vae',
  )
  expect(isOnHub('toy-1:Q8_0')).toBe(true)
})

test('FLUX.1 draws beside it, named or from its folder', async () => {
  const { tokenizers: _, ...tiny } = tinyModelFiles()
  const place = join(tiny.transformer, '..')
  expect(await locateModelFiles(place)).toEqual(tiny)
  await using pipe = await ImagePipeline.load('tiny', onTestBackend)
  expect((await pipe.generate(SMALL)).length).toBe(64 * 64 * 3)
})
