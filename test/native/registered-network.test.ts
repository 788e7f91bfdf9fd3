import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openModelFile } from '../../lib/formats/open.js'
import { convert, inspect } from '../../lib/index.js'
import type { NetworkDefinition } from '../../lib/networks/definition.js'
import { completeConfig, type ConfigRules } from '../../lib/networks/config-rules.js'
import { productFlops } from '../../lib/networks/flops.js'
import { countBlocks, linear, range, shapeOf, type LayoutTensor } from '../../lib/networks/layout.js'
import { networkDefinition, registerNetwork } from '../../lib/networks/registry.js'
import { nativeQuantize } from '../../lib/native/addon.js'
import { synthesize } from '../../lib/tools/synth/synth.js'

// A network that lib/ does not know: its definition is all that inspecting, synthesising and converting its files take.

interface ResamplerConfig {
  width: number
  depth: number
}

const RULES: ConfigRules<ResamplerConfig> = {
  width: { kind: 'integer', min: 32, max: 4096, multipleOf: 32 },
  depth: { kind: 'integer', min: 1, max: 64 },
}

const layout = ({ width, depth }: ResamplerConfig): LayoutTensor[] => [
  { name: 'queries', shape: [16, width], role: 'embedding' },
  ...range(depth).flatMap((i) => [
    ...linear(`blocks.${i}.up`, 4 * width, width),
    ...linear(`blocks.${i}.down`, width, 4 * width),
  ]),
  ...linear('out', width, width),
]

const RESAMPLER: NetworkDefinition<ResamplerConfig, 'resampler'> = {
  kind: 'resampler',
  label: 'a resampler of pictures',
  role: 'image encoder',
  describe: ({ depth }) => `a resampler of ${depth} blocks`,
  names: {
    prefixes: ['resampler.', ''],
    renames: [[/^layers\.(\d+)\./, 'blocks.$1.']],
    aliases: {},
    ignored: [/^teacher\./],
    marks: ['queries'],
  },
  rules: RULES,
  readConfig(tensors, overrides) {
    const width = shapeOf(tensors, 'queries', 2)[1]!
    return completeConfig({ width, depth: countBlocks(tensors.keys(), 'blocks.', 'up.weight') }, RULES, overrides)
  },
  layout,
  nativeConfig: (config) => ({ ...config }),
  flops: (config, [tokens]: readonly [number]) => ({
    products: productFlops(layout(config), () => tokens),
    attention: 0,
  }),
  gguf: {
    architecture: 'resampler',
    metadata: ({ depth }) => ({ 'resampler.block_count': depth }),
    rename: (name) => name.replace(/^blocks\./, 'layers.'),
  },
  keep: [{ name: /^out\./, type: 'BF16' }],
  random: [{ name: /\.down\.weight$/, gain: 0.5 }],
  examples: { 'resampler-tiny': { width: 64, depth: 2 } },
}

const folder = mkdtempSync(join(tmpdir(), 'ggflux-registered-'))
beforeAll(() => registerNetwork(RESAMPLER))
afterAll(() => rmSync(folder, { recursive: true }))

const typesOf = async (path: string) =>
  Object.fromEntries([...(await openModelFile(path)).tensors].map(([name, { type }]) => [name, type]))

test('is synthesised, inspected and converted from its definition', async () => {
  const path = join(folder, 'resampler.safetensors')
  const made = await synthesize({ architecture: 'resampler-tiny', path, type: 'F32', config: { depth: 3 } })
  expect(made).toMatchObject({ config: { width: 64, depth: 3 }, tensors: 15 })

  expect(await inspect(path)).toMatchObject({
    role: 'image encoder',
    architecture: 'a resampler of 3 blocks',
    config: { width: 64, depth: 3 },
    weights: 4 * made.parameters,
    problems: [],
  })

  const output = join(folder, 'resampler.gguf')
  const { types } = await convert(path, output, { type: 'Q8_0' })
  expect(types).toEqual({ Q8_0: 6, F32: 8, BF16: 1 })
  expect(await typesOf(output)).toMatchObject({
    queries: 'F32',
    'layers.2.up.weight': 'Q8_0',
    'layers.2.up.bias': 'F32',
    'out.weight': 'BF16',
  })
  const { architecture, config, metadata, problems } = await inspect(output)
  expect({ architecture, config, problems }).toEqual({
    architecture: 'a resampler of 3 blocks',
    config: { width: 64, depth: 3 },
    problems: [],
  })
  expect(metadata).toMatchObject({ 'general.architecture': 'resampler', 'resampler.block_count': 3 })

  // written in one step, the same random numbers are rounded the same way
  const direct = join(folder, 'direct.gguf')
  const quantize = nativeQuantize
  await synthesize({ architecture: 'resampler-tiny', path: direct, type: 'F32', config: { depth: 3 }, quantize })
  const back = join(folder, 'back.safetensors')
  await convert(direct, back, { type: 'F32' })
  expect(readFileSync(back).equals(readFileSync(path))).toBe(true)
})

test('a wrong field is refused by its rules, and so is a LoRA', async () => {
  const path = join(folder, 'refused.gguf')
  const wrong = (config: Record<string, unknown>) => synthesize({ architecture: 'resampler-tiny', path, config })
  await expect(wrong({ height: 1 })).rejects.toThrow('config.height is unknown. The fields are width, depth')
  await expect(wrong({ width: 48 })).rejects.toThrow(/config\.width is 48; it has to be .*multiple of 32/)
  const weights = join(folder, 'plain.safetensors')
  await synthesize({ architecture: 'resampler-tiny', path: weights })
  await expect(convert(weights, path, { type: 'F16', loras: [{ path: 'any' }] })).rejects.toThrow(/leave them out/)
})

test('a name is given once', () => {
  expect(() => registerNetwork(RESAMPLER)).toThrow("a network is called 'resampler' already")
  expect(() =>
    registerNetwork({ ...RESAMPLER, kind: 'other', examples: { 't5-xxl': { width: 64, depth: 1 } } }),
  ).toThrow("a network is called 't5-xxl' already")
  expect(() => networkDefinition('unet')).toThrow(/'unet'; expected one of flux, .*, resampler/)
})
