import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { openNetworkFile } from '../../../lib/networks/network-file.js'
import { tinyModelFiles } from '../../../lib/model/bundled-model.js'
import { openModel } from '../../../lib/pipeline/open-model.js'
import { tokenizersOf } from '../../support/tiny.js'
import { heldOutPrompts } from '../../support/judge/trial.js'
import { COLOR_NAMES, SHAPES } from '../../support/judge/world.js'

const files = tinyModelFiles()
const folder = dirname(files.transformer)
const card = readFileSync(join(folder, 'README.md'), 'utf8')

test('its files take at most 12 MB, its addition 4 MB, and their hashes are those of the card', () => {
  const names = readdirSync(folder).filter(
    (name) => statSync(join(folder, name)).isFile() && !/README|prompts|sheet/.test(name),
  )
  expect(names.sort()).toEqual([
    'clip.gguf',
    'merges.txt',
    'outline.gguf',
    't5.gguf',
    'transformer.gguf',
    'vae.safetensors',
    'vocab.json',
  ])
  const bytes = (names: string[]) => names.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
  expect(bytes(names.filter((name) => name !== 'outline.gguf'))).toBeLessThanOrEqual(12e6)
  expect(bytes(['outline.gguf'])).toBeLessThanOrEqual(4e6)
  for (const name of names) {
    const hash = createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex')
    expect(card, name).toContain(`| \`${name}\` | ${statSync(join(folder, name)).size} | \`${hash}\` |`)
  }
})

test('it has the structure of FLUX.1-dev', async () => {
  const { config } = await openNetworkFile('flux', files.transformer)
  expect(config.hiddenSize / config.numHeads).toBe(128)
  expect(config).toMatchObject({
    axesDim: [16, 56, 56],
    theta: 10000,
    guidanceEmbed: true,
    inChannels: 64,
    outChannels: 64,
  })
  const vae = (await openNetworkFile('autoencoder', files.vae)).config
  expect(vae).toMatchObject({
    zChannels: 16,
    scaleFactor: 0.3611,
    shiftFactor: 0.1159,
    hasEncoder: true,
    hasDecoder: true,
  })
  expect(vae.chMult, '8-fold reduction').toHaveLength(4)
})

test('both tokenizers read every held-out prompt whole, without unknown pieces', async () => {
  const tokenizers = tokenizersOf(await openModel('tiny'))
  const { single, pair } = heldOutPrompts()
  for (const { prompt } of [...single, ...pair]) {
    const { ids, truncated } = tokenizers.t5.encode(prompt, 32)
    expect([truncated, tokenizers.clip.encode(prompt).truncated], prompt).toEqual([false, false])
    expect([...ids], prompt).not.toContain(2)
  }
})

/** The rules of models/tiny/train/world.py, said again. */
test('the held-out prompts ask for what training left out', () => {
  const { single, pair } = heldOutPrompts()
  expect(new Set([...single, ...pair].map(({ prompt }) => prompt)).size).toBe(240)
  for (const { prompt, things } of single) {
    expect(SHAPES.indexOf(things[0]!.shape), prompt).toBe((3 * COLOR_NAMES.indexOf(things[0]!.color) + 1) % 8)
  }
  for (const { prompt, things, relation } of pair) {
    const [a, b] = things.map(({ shape }) => SHAPES.indexOf(shape)) as [number, number]
    expect((5 * a + 3 * b + ['left of', 'above'].indexOf(relation!)) % 8, prompt).toBe(0)
  }
})

// It is run by hand after a training, so nothing else would notice that a module of ours has another name.
test('what packs the trained weights finds what it imports', async () => {
  const script = readFileSync(join(folder, 'train/export.mjs'), 'utf8')
  const imports = [...script.matchAll(/^import \{ (.*) \} from '(\.\.\/.*)'$/gm)]
  expect(imports.length).toBeGreaterThan(5)
  for (const [, names, path] of imports) {
    const module = (await import(join(folder, 'train', path!))) as object
    for (const name of names!.split(', ')) expect(Object.keys(module), path).toContain(name)
  }
})
