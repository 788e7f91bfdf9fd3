import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openNetworkFile } from '../../lib/models/network-file.js'
import { synthesizeTinyModel } from '../../lib/models/tiny-model.js'
import { ClipTokenizer } from '../../lib/tokenizers/clip.js'
import { T5Tokenizer } from '../../lib/tokenizers/t5.js'
import { quantizeQ8_0 } from '../support/quantize.js'

let folder: string
let quantized = 0

const quantize: typeof quantizeQ8_0 = (...args) => {
  quantized++
  return quantizeQ8_0(...args)
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-tiny-'))
})

afterAll(() => rmSync(folder, { recursive: true }))

it('makes four networks that fit each other, and the tokenizers', async () => {
  const paths = await synthesizeTinyModel(join(folder, 'new', 'tiny'), quantize)
  const [flux, t5, clip, vae] = await Promise.all([
    openNetworkFile('flux', paths.transformer),
    openNetworkFile('t5', paths.t5),
    openNetworkFile('clip', paths.clip),
    openNetworkFile('autoencoder', paths.vae),
  ])
  expect(flux.config.contextInDim).toBe(t5.config.dModel)
  expect(flux.config.vecInDim).toBe(clip.config.hiddenSize)
  expect(flux.config.outChannels).toBe(4 * vae.config.zChannels)
  expect(flux.config.guidanceEmbed).toBe(true)
  const t5Tokenizer = T5Tokenizer.fromGguf(t5.file.metadata)
  expect(t5Tokenizer.encode('a red circle', 16).length).toBeGreaterThan(3)
  expect(Math.max(...t5Tokenizer.encode('a red circle', 16).ids)).toBeLessThan(t5.config.vocabSize)
  const clipTokens = (await ClipTokenizer.load(paths.tokenizers.clip)).encode('a red circle')
  expect(clipTokens.ids[0]).toBe(clip.config.vocabSize - 2)
  expect(clipTokens.ids[clipTokens.eos]).toBe(clip.config.vocabSize - 1)
  const size = readdirSync(join(folder, 'new', 'tiny')).reduce((sum, name) => sum + statSync(join(folder, 'new', 'tiny', name)).size, 0)
  expect(size).toBeLessThan(40e6)
})

it('is made once, and anew when a file is gone, cut off, altered or of another version', async () => {
  const directory = join(folder, 'broken')
  const paths = await synthesizeTinyModel(directory, quantize)
  const original = readFileSync(paths.transformer)
  const made = quantized
  await synthesizeTinyModel(directory, quantize)
  expect(quantized).toBe(made)
  const manifest = join(directory, 'model.json')
  const damages: (() => void)[] = [
    () => rmSync(paths.t5),
    () => truncateSync(paths.transformer, 1000),
    () => writeFileSync(paths.vae, readFileSync(paths.vae).fill(7, 500_000, 500_001)),
    () => writeFileSync(manifest, readFileSync(manifest, 'utf8').replace(/"version":\d+/, '"version":0')),
    () => writeFileSync(manifest, '{'),
    () => rmSync(manifest),
  ]
  for (const damage of damages) {
    const before = quantized
    damage()
    await synthesizeTinyModel(directory, quantize)
    expect(quantized, String(damage)).toBeGreaterThan(before)
    expect(readFileSync(paths.transformer).equals(original), String(damage)).toBe(true)
  }
  expect(readdirSync(folder).filter((name) => name.startsWith('broken'))).toEqual(['broken'])
})

it('made by two at once, one is left and both can use it', async () => {
  const directory = join(folder, 'race')
  const [first, second] = await Promise.all([synthesizeTinyModel(directory, quantize), synthesizeTinyModel(directory, quantize)])
  expect(first).toEqual(second)
  expect((await openNetworkFile('flux', first.transformer)).config.hiddenSize).toBe(256)
  expect(readdirSync(folder).filter((name) => name.startsWith('race'))).toEqual(['race'])
})

it('says what to do when the folder cannot be written', async () => {
  const file = join(folder, 'a-file')
  writeFileSync(file, '')
  await expect(synthesizeTinyModel(join(file, 'tiny'), quantize)).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: expect.stringMatching(/a-file.*GGFLUX_CACHE/),
  })
})
