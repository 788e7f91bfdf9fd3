import { describe, expect, test } from 'vitest'
import { FLUX_RGB } from '../../../../lib/families/flux1/latent.js'
import { deDistilledTitle, fluxVariant } from '../../../../lib/families/flux1/variants.js'
import type { MetadataValue, ModelFile } from '../../../../lib/formats/model-file.js'

const dev = { guidanceEmbed: true, inChannels: 64, outChannels: 64 }
const schnell = { ...dev, guidanceEmbed: false }
const file = (metadata: Record<string, MetadataValue> = {}): ModelFile => ({
  path: 'a/model.gguf',
  format: 'gguf',
  size: 0,
  metadata: new Map(Object.entries(metadata)),
  tensors: new Map(),
})

const defaultsOf = (file: ModelFile, config: typeof dev) => fluxVariant({ file, config }).defaults

// black-forest-labs/flux, src/flux/cli.py: 50 steps for dev are the program's, 28 the field's; T5's lengths are those of src/flux/util.py
test('a file that says nothing has the defaults of FLUX.1', () => {
  const common = { width: 1024, height: 1024 }
  expect(defaultsOf(file(), dev)).toEqual({ ...common, steps: 28, guidance: 3.5, shift: true, maxSequenceLength: 512 })
  expect(defaultsOf(file(), schnell)).toEqual({
    ...common,
    steps: 4,
    guidance: undefined,
    shift: false,
    maxSequenceLength: 256,
  })
})

test('what a file says of itself goes before them, one by one', () => {
  const metadata = {
    'ggflux.width': 128,
    'ggflux.height': 64,
    'ggflux.steps': 8,
    'ggflux.guidance': 2.5,
    'ggflux.max_sequence_length': 32,
  }
  const said = { width: 128, height: 64, steps: 8, guidance: 2.5, shift: true, maxSequenceLength: 32 }
  expect(defaultsOf(file(metadata), dev)).toEqual(said)
  expect(defaultsOf(file(metadata), schnell).guidance, 'a model without guidance takes none').toBeUndefined()
  expect(defaultsOf(file({ 'ggflux.steps': 5 }), dev)).toMatchObject({ width: 1024, steps: 5, guidance: 3.5 })
})

test.each<[string, string | undefined, Record<string, MetadataValue>]>([
  ['dev by its name', 'FLUX.1 dev de-distilled', { 'general.name': 'FLUX.1 dev de-distilled' }],
  ['a title in safetensors', 'OpenFLUX.1', { 'modelspec.title': 'OpenFLUX.1' }],
  ['another spelling', 'flux undistilled v2', { 'general.name': 'flux', 'general.finetune': 'flux undistilled v2' }],
  ['schnell', undefined, { 'general.name': 'FLUX.1 schnell', 'general.architecture': 'flux' }],
  ['a word with dev in it', undefined, { 'general.name': 'Devon developed' }],
  ['no title', undefined, {}],
  ['a file with steps of its own', undefined, { 'general.name': 'flux1-dev', 'ggflux.steps': 20 }],
])('no guidance, and no schnell: %s', (_, title, metadata) => {
  expect(deDistilledTitle(file(metadata), schnell)).toBe(title)
  expect(deDistilledTitle(file(metadata), dev)).toBeUndefined()
})

test('colours of the preview: 16 channels, then the bias', () => {
  const values = Float32Array.from({ length: 51 }, (_, i) => i / 64)
  const { rgbFactors } = fluxVariant({ file: file({ 'ggflux.latent_rgb': values }), config: dev }).latent
  expect(fluxVariant({ file: file(), config: dev }).latent.rgbFactors).toBe(FLUX_RGB)
  expect(rgbFactors.factors).toHaveLength(16)
  expect(rgbFactors.factors[15]).toEqual([45 / 64, 46 / 64, 47 / 64])
  expect(rgbFactors.bias).toEqual([48 / 64, 49 / 64, 50 / 64])
})

describe('a value out of range is a fault of the file', () => {
  const wrong: [string, MetadataValue[]][] = [
    ['ggflux.width', [0, 100, 48, 8192, -64, 64.5, '128', true, 2n ** 60n, new Uint8Array(4)]],
    ['ggflux.height', [4112, NaN]],
    ['ggflux.steps', [0, 1001, 1.5, 'many'.repeat(1000)]],
    ['ggflux.guidance', [-1, 101, NaN, Infinity, '3']],
    ['ggflux.max_sequence_length', [15, 513]],
    ['ggflux.latent_rgb', [1, [], new Float32Array(50), new Float64Array(51), new Float32Array(51).fill(NaN)]],
  ]
  test.each(wrong.flatMap(([key, values]) => values.map((value): [string, MetadataValue] => [key, value])))(
    '%s: %o',
    (key, value) => {
      const message = expect.stringMatching(
        new RegExp(`^a/model\\.gguf: metadata ${key} is .{1,41}, it has to be .*Use another copy`),
      )
      expect(() => defaultsOf(file({ [key]: value }), dev)).toThrow(
        expect.objectContaining({ code: 'FLUX_BAD_FILE', message }),
      )
    },
  )
})
