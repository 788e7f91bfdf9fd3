import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { tinyModelFiles } from '../../../lib/model/bundled-model.js'
import { ModelCatalogue } from '../../../lib/queue/model-catalogue.js'
import { temporaryFolder } from '../../support/temporary.js'

const folder = temporaryFolder()
const tiny = tinyModelFiles()
const encoders = { text_encoders: [tiny.t5, tiny.clip], vae: [tiny.vae] }

beforeAll(() => {
  const put = (place: string, path: string, name = basename(path)) => {
    mkdirSync(join(folder, place), { recursive: true })
    cpSync(path, join(folder, place, name), { recursive: true })
  }
  const tokenizer = readdirSync(tiny.tokenizers!.clip!).filter((name) => /^(vocab|merges|tokenizer)/.test(name))
  // ComfyUI's layout with two denoisers
  put('comfyui/unet', tiny.transformer, 'one.gguf')
  put('comfyui/diffusion_models', tiny.transformer, 'two.gguf')
  for (const [place, paths] of Object.entries(encoders)) for (const path of paths) put(`comfyui/${place}`, path)
  for (const name of tokenizer) {
    put('comfyui/text_encoders', join(tiny.tokenizers!.clip!, name))
    put('folders/fox', join(tiny.tokenizers!.clip!, name))
  }
  for (const name of ['a.safetensors', 'sub/b.safetensors', '.hidden.safetensors', 'notes.txt']) {
    mkdirSync(join(folder, 'comfyui/loras/sub'), { recursive: true })
    writeFileSync(join(folder, 'comfyui/loras', name), '')
  }
  // one folder for each
  for (const path of [tiny.transformer, tiny.t5, tiny.clip, tiny.vae]) put('folders/fox', path)
  put('folders/broken', tiny.transformer)
  mkdirSync(join(folder, 'folders/empty'))
  writeFileSync(join(folder, 'folders', 'notes.txt'), '')
})

const namesIn = async (options: ConstructorParameters<typeof ModelCatalogue>[0]) =>
  [...(await new ModelCatalogue({ cached: false, ...options }).models()).keys()].sort()

describe('models', () => {
  test("ComfyUI's folders: each denoiser with the encoders and the autoencoder", async () => {
    expect(await namesIn({ folder: join(folder, 'comfyui') })).toEqual(['one', 'tiny', 'two'])
    const { files, description } = await new ModelCatalogue({ folder: join(folder, 'comfyui') }).model('two')
    expect(files.transformer).toBe(join(folder, 'comfyui/diffusion_models/two.gguf'))
    expect(files.vae).toBe(join(folder, 'comfyui/vae', basename(tiny.vae)))
    expect(description).toMatchObject({ name: 'two', defaults: { width: 128, height: 128, steps: 8, guidance: 2 } })
  })

  test('one folder for each model; what cannot be loaded is left out, with the reason', async () => {
    expect(await namesIn({ folder: join(folder, 'folders') })).toEqual(['fox', 'tiny'])
    const problems = await new ModelCatalogue({ folder: join(folder, 'folders'), cached: false }).problems()
    expect(problems).toEqual([expect.stringMatching(/^the model broken is left out: .* holds no t5, no clip, no vae/)])
    const nowhere = new ModelCatalogue({ folder: join(folder, 'nowhere'), cached: false })
    expect(await nowhere.problems()).toEqual([expect.stringMatching(/nowhere cannot be read/)])
    expect([...(await nowhere.models()).keys()]).toEqual(['tiny'])
  })

  test('by names of your own', async () => {
    expect(await namesIn({ models: { mine: tiny, missing: join(folder, 'nowhere') } })).toEqual(['mine', 'tiny'])
  })

  test('an unknown name: an error with those that there are', async () => {
    const catalogue = new ModelCatalogue({ cached: false })
    await expect(catalogue.model('../fox')).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringMatching(/no model named '\.\.\/fox'; there are tiny/) as string,
    })
  })

  test('a description stays the same object as long as the files do', async () => {
    const catalogue = new ModelCatalogue({ cached: false })
    const { description } = await catalogue.model('tiny')
    expect((await catalogue.model('tiny')).description).toBe(description)
  })
})

describe('files', () => {
  const catalogue = () => new ModelCatalogue({ folder: join(folder, 'comfyui'), cached: false })

  test('are found below their folder, with or without suffix', async () => {
    expect(await catalogue().names('lora')).toEqual(['a', 'sub/b'])
    expect(await catalogue().file('lora', 'a')).toBe(join(folder, 'comfyui/loras/a.safetensors'))
    expect(await catalogue().file('lora', 'sub/b.safetensors')).toBe(join(folder, 'comfyui/loras/sub/b.safetensors'))
  })

  test.each([
    '../unet/one',
    'sub/../a',
    './a',
    '/a',
    '.hidden',
    'notes',
    '',
    '__proto__',
    join(folder, 'comfyui/loras/a.safetensors'),
  ])('%j is none', async (name) => {
    await expect(catalogue().file('lora', name)).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
  })

  test('links to themselves end', async () => {
    mkdirSync(join(folder, 'loop'))
    symlinkSync(join(folder, 'loop'), join(folder, 'loop', 'again'))
    writeFileSync(join(folder, 'loop', 'c.safetensors'), '')
    expect(
      (await new ModelCatalogue({ loras: join(folder, 'loop'), cached: false }).names('lora')).length,
    ).toBeLessThan(10)
  })
})

describe('requests', () => {
  test('are checked without loading anything', async () => {
    const catalogue = new ModelCatalogue({ cached: false })
    const check = (options: object) => catalogue.check({ model: 'tiny', options: { prompt: 'a', ...options } })
    await check({ width: 64 })
    await expect(check({ width: 65 })).rejects.toThrow(/^width is 65/)
    await expect(check({ loras: [{ path: 'x' }] })).rejects.toThrow(/no lora named 'x'/)
    await expect(check({ controlNets: [{ path: 'x', image: new Uint8Array(1) }] })).rejects.toThrow(
      /no controlNet named 'x'/,
    )
  })
})
