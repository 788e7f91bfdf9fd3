import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FLUX_COMPONENTS } from '../../../lib/families/flux1/components.js'
import type { ModelFiles } from '../../../lib/families/registry.js'
import { locateModelFiles, locateTokenizer } from '../../../lib/model/locate.js'
import { openModelFile } from '../../../lib/formats/open.js'
import { synthesize, type SynthOptions } from '../../../lib/tools/synth/synth.js'
import { writeModelFile } from '../../../lib/formats/write-model-file.js'
import { openModel } from '../../../lib/pipeline/open-model.js'
import { tokenizersOf } from '../../support/tiny.js'
import { syntheticClipVocabulary } from '../../../lib/tokenizers/synthetic.js'

let root: string
/** a sound model: transformer.safetensors, t5.gguf with its tokenizer, clip.safetensors, vae.safetensors, vocab.json, merges.txt */
let model: string
/** a transformer of which one tensor is missing */
let lacking: string

async function make(architecture: string, path: string, config?: SynthOptions['config']): Promise<string> {
  return (await synthesize({ architecture, path, ...(config ? { config } : {}) })).path
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'ggflux-locate-'))
  model = join(root, 'model')
  mkdirSync(model)
  await make('flux-tiny', join(model, 'transformer.safetensors'), { depth: 1, depthSingleBlocks: 1 })
  await make('t5-tiny', join(model, 't5.gguf'))
  await make('clip-tiny', join(model, 'clip.safetensors'))
  await make('autoencoder-tiny', join(model, 'vae.safetensors'))
  lacking = join(root, 'lacking.safetensors')
  const tensors = [...(await openModelFile(filesIn(model).transformer)).tensors.values()].slice(1)
  await writeModelFile(
    lacking,
    tensors.map(({ name, type, shape, byteLength }) => ({ name, type, shape, data: new Uint8Array(byteLength) })),
  )
  const { vocab, merges } = syntheticClipVocabulary(600)
  writeFileSync(join(model, 'vocab.json'), JSON.stringify(vocab))
  writeFileSync(join(model, 'merges.txt'), merges.join('\n'))
})
afterAll(() => rmSync(root, { recursive: true }))

const filesIn = (folder: string): ModelFiles => ({
  transformer: join(folder, 'transformer.safetensors'),
  t5: join(folder, 't5.gguf'),
  clip: join(folder, 'clip.safetensors'),
  vae: join(folder, 'vae.safetensors'),
})

/** a copy of the model without the named files */
function copyWithout(name: string, ...left: string[]): string {
  const folder = join(root, name)
  cpSync(model, folder, { recursive: true, filter: (path) => !left.includes(basename(path)) })
  return folder
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** a FluxError whose message holds these parts in this order */
const fails = (code: string, ...parts: string[]) =>
  expect.objectContaining({
    name: 'FluxError',
    code,
    message: expect.stringMatching(new RegExp(parts.map(escaped).join('.*'), 's')),
  })

describe('a folder', () => {
  test('its parts are told by their tensors, not by their names', async () => {
    const folder = join(root, 'renamed')
    mkdirSync(folder)
    const names = {
      transformer: 'vae.safetensors',
      t5: 'A.GGUF',
      clip: 'transformer.safetensors',
      vae: 'x.safetensors',
    }
    for (const [part, name] of Object.entries(names)) cpSync(filesIn(model)[part as 't5'], join(folder, name))
    writeFileSync(join(folder, 'notes.txt'), 'not a model')
    await writeModelFile(join(folder, 'lora.safetensors'), [
      { name: 'lora_unet_x.lora_down.weight', shape: [1, 1], type: 'F32', data: new Uint8Array(4) },
    ])
    const expected = Object.fromEntries(Object.entries(names).map(([part, name]) => [part, join(folder, name)]))
    expect(await locateModelFiles(folder)).toEqual(expected)
  })

  test('a sound one opens, and a trailing slash does not matter', async () => {
    const opened = await openModel(`${model}/`)
    const { transformer, t5 } = opened.networks
    const tokenizers = tokenizersOf(opened)
    expect(transformer!.config).toMatchObject({ depth: 1 })
    expect(t5!.file.path).toBe(join(model, 't5.gguf'))
    expect(tokenizers.t5.encode('a red fox', 16).length).toBeGreaterThan(3)
    expect(tokenizers.clip.encode('a red fox').eos).toBeGreaterThan(1)
  })

  test.each([
    ['diffusers', { transformer: 'transformer', t5: 'text_encoder_2', clip: 'text_encoder', vae: 'vae' }],
    ['ComfyUI', { transformer: 'unet', t5: 'text_encoders', clip: 'text_encoders', vae: 'vae' }],
    ['older ComfyUI', { transformer: 'diffusion_models', t5: 'clip', clip: 'clip', vae: 'vae' }],
  ])('laid out as %s does', async (name, where) => {
    const folder = join(root, name)
    const parts = Object.entries(where).map(
      ([part, sub]) => [part, join(folder, sub, basename(filesIn(model)[part as 't5']))] as const,
    )
    for (const [part, path] of parts) cpSync(filesIn(model)[part as 't5'], path)
    for (const file of ['vocab.json', 'merges.txt']) cpSync(join(model, file), join(folder, 'tokenizer', file))
    expect(await locateModelFiles(folder)).toEqual(Object.fromEntries(parts))
    expect(tokenizersOf(await openModel(folder)).clip.encode('a red fox').eos).toBeGreaterThan(1)
  })

  test('what reads images, in the folders of ComfyUI; of two that could be meant, none', async () => {
    const folder = copyWithout('guided')
    for (const name of ['clip_vision', 'style_models']) mkdirSync(join(folder, name))
    const siglip = await make('siglip-tiny', join(folder, 'clip_vision', 'sigclip.safetensors'))
    const redux = await make('redux-tiny', join(folder, 'style_models', 'redux.safetensors'))
    const clipVision = await make('clip-vision-tiny', join(folder, 'clip_vision', 'clip.safetensors'))
    expect(await locateModelFiles(folder)).toEqual({ ...filesIn(folder), siglip, redux, clipVision })
    await make('clip-vision-tiny', join(folder, 'clip_vision', 'another.safetensors'))
    expect(await locateModelFiles(folder)).toEqual({ ...filesIn(folder), siglip, redux })
  })

  test('of several encoders and autoencoders those are taken that fit', async () => {
    const folder = copyWithout('several')
    await make('clip-tiny', join(folder, 'clip-large.safetensors'), { hiddenSize: 256, intermediateSize: 1024 })
    await make('t5-tiny', join(folder, 't5-small.gguf'), { dModel: 512 })
    await make('autoencoder-tiny', join(folder, 'vae-other.safetensors'), { zChannels: 4 })
    expect(await locateModelFiles(folder)).toEqual(filesIn(folder))
  })

  test('one file with all networks', async () => {
    const path = join(root, 'checkpoint.safetensors')
    const prefixes = {
      transformer: 'model.diffusion_model.',
      t5: 'text_encoders.t5xxl.transformer.',
      clip: 'text_encoders.clip_l.transformer.',
      vae: 'vae.',
    }
    const tensors = await Promise.all(
      Object.entries(prefixes).map(async ([part, prefix]) => {
        const file = await openModelFile(filesIn(model)[part as 't5'])
        return [...file.tensors.values()].map(({ name, type, shape, byteLength }) => ({
          name: prefix + name,
          type,
          shape,
          data: new Uint8Array(byteLength),
        }))
      }),
    )
    await writeModelFile(path, tensors.flat())
    expect(await locateModelFiles(path)).toEqual({ transformer: path, t5: path, clip: path, vae: path })
  })

  test('without parts', async () => {
    const empty = join(root, 'empty')
    mkdirSync(empty)
    const nothing = `${empty} holds no transformer, no t5, no clip, no vae`
    await expect(openModel(empty)).rejects.toThrow(fails('FLUX_NOT_FOUND', nothing, 'put the files into it, or give {'))
    const folder = copyWithout('without vae', 'vae.safetensors')
    await expect(openModel(folder)).rejects.toThrow(fails('FLUX_NOT_FOUND', 'holds no vae;', 'put the files into it'))
  })

  test('with two transformers', async () => {
    const folder = copyWithout('two')
    cpSync(join(folder, 'transformer.safetensors'), join(folder, 'another.safetensors'))
    const both = ['another.safetensors and', 'transformer.safetensors are both a transformer']
    await expect(openModel(folder)).rejects.toThrow(
      fails('FLUX_BAD_OPTION', ...both, 'give { transformer, t5, clip, vae } to say which'),
    )
  })

  test.each(['no such folder', '', 'a\0b'])('%o, which is none', async (name) => {
    const none = `'${name}' is no preset and no folder`
    await expect(openModel(name)).rejects.toThrow(
      fails('FLUX_NOT_FOUND', none, "give 'tiny', 'flux.1-schnell' or another preset, hf:owner/name, a folder, or {"),
    )
  })

  test('all that is wrong is told at once', async () => {
    const { vae, clip } = filesIn(model)
    const wrong = openModel({
      transformer: join(model, 'vocab.json'),
      t5: vae,
      clip,
      vae: join(model, 'none.safetensors'),
    })
    await expect(wrong).rejects.toThrow(
      fails(
        'FLUX_BAD_FILE',
        'cannot be loaded, for 3 reasons:',
        'vocab.json: this is a JSON text',
        '\n- ',
        'this seems to be an autoencoder, not a T5',
        '\n- ',
        'there is no such file',
      ),
    )
  })

  test('a file as a folder', async () => {
    await expect(openModel(join(model, 't5.gguf'))).rejects.toThrow(
      fails('FLUX_NOT_FOUND', 't5.gguf', 'holds no transformer, no clip, no vae'),
    )
    await expect(openModel(join(model, 'vocab.json'))).rejects.toThrow(
      fails('FLUX_NOT_FOUND', 'vocab.json', 'no folder that can be read'),
    )
  })

  test.each<[string, string, (path: string) => void]>([
    [
      'a companion that macOS writes',
      '._vae.safetensors',
      (path) => writeFileSync(path, Buffer.concat([Buffer.from('0005160700020000', 'hex'), Buffer.alloc(4072)])),
    ],
    ['a hidden copy', '.transformer.safetensors', (path) => cpSync(filesIn(model).transformer, path)],
    ['an empty file', 'other.safetensors', (path) => writeFileSync(path, '')],
    [
      'a Git LFS pointer',
      'other.safetensors',
      (path) =>
        writeFileSync(path, `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 1\n`),
    ],
    ['a link to nowhere', 'other.gguf', (path) => symlinkSync('/nowhere/model.gguf', path)],
    ['a link to itself', 'other.gguf', (path) => symlinkSync(path, path)],
    ['a folder named like a model', 'old.safetensors', (path) => mkdirSync(path)],
    [
      'a file that was copied half',
      'copy.safetensors',
      (path) => writeFileSync(path, readFileSync(filesIn(model).vae).subarray(0, 100_000)),
    ],
    ['one part of a split file', 'split-00001-of-00002.gguf', (path) => cpSync(filesIn(model).t5, path)],
    ['a pipe', 'pipe.gguf', (path) => void execFileSync('mkfifo', [path])],
    ['a transformer that lacks tensors', 'a.gguf', (path) => cpSync(lacking, path)],
  ])('%s is no hindrance, and named where a part is missing', async (name, stray, put) => {
    const folder = copyWithout(`with ${name}`)
    put(join(folder, stray))
    expect(await locateModelFiles(folder)).toEqual(filesIn(folder))
    if (stray === 'a.gguf') return
    rmSync(join(folder, 'vae.safetensors'))
    const named = fails('FLUX_NOT_FOUND', 'holds no vae', 'put the files into it', join(folder, stray))
    await expect(openModel(folder)).rejects.toThrow(named)
  })

  test('a model without guidance that is no schnell by its title: a warning, once it is opened', async () => {
    const folder = copyWithout('de-distilled', 'transformer.safetensors')
    const file = await openModelFile(filesIn(model).transformer)
    const tensors = [...file.tensors.values()].map(({ name, type, shape, byteLength }) => ({
      name,
      type,
      shape,
      data: new Uint8Array(byteLength),
    }))
    const without = tensors.filter(({ name }) => !name.startsWith('guidance_in'))
    await writeModelFile(join(folder, 'transformer.safetensors'), without, { 'modelspec.title': 'flux dev de-distill' })
    const warnings: string[] = []
    await openModel(folder, { onWarning: (message) => warnings.push(message) })
    expect(warnings).toEqual([
      expect.stringMatching(/transformer.safetensors: the model has no guidance.*'flux dev de-distill'.*shift: true/),
    ])
    await openModel(model, { onWarning: (message) => warnings.push(message) })
    expect(warnings).toHaveLength(1)
  })

  test('.sft is safetensors', async () => {
    const folder = copyWithout('sft', 'vae.safetensors')
    cpSync(filesIn(model).vae, join(folder, 'ae.sft'))
    expect(await locateModelFiles(folder)).toEqual({ ...filesIn(folder), vae: join(folder, 'ae.sft') })
  })

  test("a clone of an official repository: the folder's own files go before those in the folders of diffusers", async () => {
    const folder = join(root, 'clone')
    const { transformer, t5, clip, vae } = filesIn(model)
    cpSync(transformer, join(folder, 'transformer/diffusion_pytorch_model.safetensors'))
    cpSync(clip, join(folder, 'text_encoder/model.safetensors'))
    cpSync(t5, join(folder, 'text_encoder_2/model.gguf'))
    cpSync(vae, join(folder, 'vae/diffusion_pytorch_model.safetensors'))
    const of = (path: string) => join(folder, path)
    const diffusers = {
      transformer: of('transformer/diffusion_pytorch_model.safetensors'),
      t5: of('text_encoder_2/model.gguf'),
      clip: of('text_encoder/model.safetensors'),
      vae: of('vae/diffusion_pytorch_model.safetensors'),
    }
    expect(await locateModelFiles(folder)).toEqual(diffusers)
    cpSync(transformer, of('flux1-dev.safetensors'))
    expect(await locateModelFiles(folder)).toEqual({ ...diffusers, transformer: of('flux1-dev.safetensors') })
    cpSync(vae, of('ae.safetensors'))
    expect(await locateModelFiles(`${folder}/`)).toEqual({
      ...diffusers,
      transformer: of('flux1-dev.safetensors'),
      vae: of('ae.safetensors'),
    })
    // what ComfyUI's folders hold is another model, and two of the folder's own are two
    cpSync(transformer, of('unet/other.safetensors'))
    await expect(locateModelFiles(folder)).rejects.toThrow(
      fails('FLUX_BAD_OPTION', 'flux1-dev.safetensors', 'unet/other.safetensors', 'are both a transformer'),
    )
    rmSync(of('unet'), { recursive: true })
    cpSync(transformer, of('flux1-schnell.safetensors'))
    await expect(locateModelFiles(folder)).rejects.toThrow(fails('FLUX_BAD_OPTION', 'are both a transformer'))
  })
})

describe('files that do not fit', () => {
  const other = async (part: keyof ModelFiles, path: string) => openModel({ ...filesIn(model), [part]: path })
  const made = (name: string, architecture: string, config?: SynthOptions['config']) =>
    make(architecture, join(root, name), config)

  test('swapped', async () => {
    const files = filesIn(model)
    const seems = 'seems to be a CLIP text encoder, not a T5 text encoder'
    await expect(openModel({ ...files, t5: files.clip, clip: files.t5 })).rejects.toThrow(
      fails('FLUX_BAD_FILE', files.clip, seems, 'Give the file that belongs here'),
    )
    await expect(openModel({ ...files, transformer: files.vae })).rejects.toThrow(
      fails('FLUX_BAD_FILE', files.vae, 'an autoencoder, not a FLUX transformer', 'Give the file that belongs here'),
    )
  })

  test('T5 of another width', async () => {
    const t5 = await made('narrow.gguf', 't5-tiny', { dModel: 128, numLayers: 1 })
    const width = 'gives states of width 128, but the transformer takes 256'
    await expect(other('t5', t5)).rejects.toThrow(fails('FLUX_BAD_FILE', t5, width, 'give the T5 encoder'))
  })

  test('CLIP of another width', async () => {
    const clip = await made('wide.safetensors', 'clip-tiny', { hiddenSize: 192, numHeads: 3, numLayers: 1 })
    const width = 'gives a vector of 192, but the transformer takes 128'
    await expect(other('clip', clip)).rejects.toThrow(fails('FLUX_BAD_FILE', clip, width, 'give the CLIP encoder'))
  })

  test('an autoencoder with other channels, other levels, or no decoder', async () => {
    const channels = await made('four.safetensors', 'autoencoder-tiny', { zChannels: 4 })
    await expect(other('vae', channels)).rejects.toThrow(
      fails('FLUX_BAD_FILE', channels, 'has 4 channels in 4', 'give the autoencoder'),
    )
    const levels = await made('levels.safetensors', 'autoencoder-tiny', { chMult: [1, 2, 4] })
    await expect(other('vae', levels)).rejects.toThrow(
      fails('FLUX_BAD_FILE', levels, 'has 16 channels in 3', 'give the autoencoder'),
    )
    const encoder = await made('encoder.safetensors', 'autoencoder-tiny', { hasDecoder: false })
    await expect(other('vae', encoder)).rejects.toThrow(
      fails('FLUX_BAD_FILE', encoder, 'no decoder', 'give the complete autoencoder'),
    )
  })

  test('a transformer for a number of channels that no model has', async () => {
    const path = await made('192.safetensors', 'flux-tiny', { inChannels: 192, depth: 1, depthSingleBlocks: 1 })
    await expect(other('transformer', path)).rejects.toThrow(
      fails('FLUX_UNSUPPORTED', path, 'takes 192 channels', 'Fill 384'),
    )
  })

  test.each([
    ['fill', 384],
    ['control', 128],
    ['references', 64],
  ])('a model that reads %s', async (reads, inChannels) => {
    const path = await made(`${inChannels}.safetensors`, 'flux-tiny', { inChannels, depth: 1, depthSingleBlocks: 1 })
    expect((await other('transformer', path)).variant.reads).toBe(reads)
  })

  test('paths that lead nowhere or to a folder', async () => {
    const missing = join(root, 'missing.gguf')
    await expect(other('t5', missing)).rejects.toThrow(
      fails('FLUX_NOT_FOUND', missing, 'there is no such file', 'Check the path'),
    )
    await expect(other('vae', model)).rejects.toThrow(
      fails('FLUX_BAD_FILE', model, 'this is a folder', 'Give the model file inside it'),
    )
  })
})

describe('tokenizers', () => {
  test('missing: every place is named, and the option', async () => {
    const folder = copyWithout('no merges', 'merges.txt')
    const wanted = 'vocab.json and merges.txt, or tokenizer.json'
    await expect(openModel(folder)).rejects.toThrow(
      fails(
        'FLUX_NOT_FOUND',
        join(folder, 'clip.safetensors'),
        wanted,
        join(folder, 'tokenizer'),
        'give its path as tokenizers.clip',
      ),
    )
    const t5 = await make('t5-tiny', join(folder, 't5.safetensors'))
    rmSync(join(folder, 't5.gguf'))
    await expect(openModel({ ...filesIn(folder), t5 })).rejects.toThrow(
      fails('FLUX_NOT_FOUND', t5, 'spiece.model, or tokenizer.json', 'give its path as tokenizers.t5'),
    )
  })

  test('given: a path that leads nowhere, and one that leads to the right folder', async () => {
    const folder = copyWithout('elsewhere', 'merges.txt', 'vocab.json')
    const nowhere = { ...filesIn(folder), tokenizers: { clip: join(root, 'nowhere') } }
    const remedy = "give the path of a tokenizer's file or folder"
    await expect(openModel(nowhere)).rejects.toThrow(fails('FLUX_NOT_FOUND', 'no tokenizer at', 'nowhere', remedy))
    const tokenizers = tokenizersOf(await openModel({ ...filesIn(folder), tokenizers: { clip: model } }))
    expect(tokenizers.clip.encode('a fox').eos).toBeGreaterThan(1)
  })

  test('of more pieces than the encoder has are found before anything is loaded', async () => {
    const folder = copyWithout('small encoders', 't5.gguf', 'clip.safetensors')
    await make('t5-tiny', join(folder, 't5.safetensors'), { vocabSize: 300 })
    await make('clip-tiny', join(folder, 'clip.safetensors'), { vocabSize: 599 })
    const files = {
      ...filesIn(folder),
      t5: join(folder, 't5.safetensors'),
      tokenizers: { t5: join(model, 't5.gguf'), clip: model },
    }
    const t5 = [
      'the tokenizer in',
      join(model, 't5.gguf'),
      'has 512 pieces, but',
      files.t5,
      'takes 300; give the tokenizer that belongs to this encoder',
    ]
    const clip = [`the tokenizer in ${model} has 600 pieces, but`, files.clip, 'takes 599']
    await expect(openModel(files)).rejects.toThrow(fails('FLUX_BAD_FILE', 'for 2 reasons', ...t5, ...clip))
    // rows that no piece needs are usual: T5 has 32128 for 32100
    await make('t5-tiny', join(folder, 't5.safetensors'), { vocabSize: 520 })
    await make('clip-tiny', join(folder, 'clip.safetensors'), { vocabSize: 600 })
    await openModel(files)
  })

  test.each(['tokenizer', '../tokenizer'])('found in the folder %s beside the model', async (place) => {
    const folder = join(root, `places ${place.length}`, 'text_encoder')
    mkdirSync(join(folder, place), { recursive: true })
    for (const name of ['vocab.json', 'merges.txt']) cpSync(join(model, name), join(folder, place, name))
    expect(await locateTokenizer(join(folder, 'model.safetensors'), 'clip', FLUX_COMPONENTS.clip.tokenizer)).toBe(
      join(folder, place),
    )
  })
})
