import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { FluxTransformer } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import {
  changedWeights,
  expectToActAs,
  loraFile,
  numbers,
  official,
  product,
  scalar,
  tensorSource,
  weights,
  type Deltas,
} from '../support/lora.js'
import { temporaryFolder } from '../support/temporary.js'

// Alpha in the file's metadata only, as PEFT's configuration: diffusers puts it there as JSON under one key, others a key for each field. A layer acts
// times alpha / rank; PEFT takes the keys of `alpha_pattern` as ends of layers' names (peft/utils/other.py, `get_pattern_key`).

const folder = temporaryFolder()

const LAYERS = [
  { layer: 'transformer_blocks.0.attn.to_out.0', weight: 'double_blocks.0.img_attn.proj.weight', rank: 4 },
  { layer: 'transformer_blocks.1.attn.to_out.0', weight: 'double_blocks.1.img_attn.proj.weight', rank: 2 },
  { layer: 'single_transformer_blocks.0.proj_out', weight: 'single_blocks.0.linear2.weight', rank: 4 },
].map((one, i) => {
  const [rows, columns] = weights.get(one.weight)!.shape as [number, number]
  return { ...one, down: numbers([one.rank, columns], 10 + i, 3e-6), up: numbers([rows, one.rank], 20 + i, 3e-6) }
})

let flux: FluxTransformer
beforeAll(async () => void (flux = await FluxTransformer.load(official, onTestBackend)))
afterAll(() => flux?.close())

const file = (metadata: Record<string, string>, more: TensorSource[] = [], prefix = 'transformer.') => {
  const pairs = LAYERS.flatMap(({ layer, down, up }) => [
    tensorSource(`${prefix}${layer}.lora_A.weight`, down),
    tensorSource(`${prefix}${layer}.lora_B.weight`, up),
  ])
  return loraFile(join(folder, 'lora.safetensors'), [...pairs, ...more], { format: 'pt', ...metadata })
}
const nested = (config: Record<string, unknown>) => ({ lora_adapter_metadata: JSON.stringify(config, null, 2) })

describe('alpha', () => {
  const pattern = { 'transformer_blocks.0.attn.to_out.0': 32, proj_out: 6 }
  test.each<[string, Record<string, string>, scales: [number, number, number], alphas?: (number | undefined)[]]>([
    [
      'for all layers',
      nested({
        'transformer.lora_alpha': 16,
        'transformer.r': 4,
        'transformer.rank_pattern': { 'transformer_blocks.1.attn.to_out.0': 2 },
      }),
      [4, 8, 4],
    ],
    ['for all layers, as keys of their own', { 'transformer.lora_alpha': '16', 'transformer.r': '4' }, [4, 8, 4]],
    ['for all layers, without the name of a network', { lora_alpha: '16', r: '4' }, [4, 8, 4]],
    ['for single layers', nested({ 'transformer.lora_alpha': 8, 'transformer.alpha_pattern': pattern }), [8, 4, 1.5]],
    [
      'for single layers, as JSON of its own',
      { 'transformer.lora_alpha': '8', 'transformer.alpha_pattern': JSON.stringify(pattern) },
      [8, 4, 1.5],
    ],
    [
      'for single layers, as Python prints it',
      {
        'transformer.lora_alpha': '8',
        'transformer.alpha_pattern': "{'to_out.0': 20, 'proj_out': 6}",
        'transformer.use_dora': 'False',
      },
      [5, 10, 1.5],
    ],
    [
      'for single layers, by regular expressions',
      nested({
        'transformer.lora_alpha': 8,
        'transformer.alpha_pattern': { '^transformer_blocks\\.\\d+\\.attn.*': 12, '^proj_out': 99 },
      }),
      [3, 6, 2],
    ],
    [
      'of which the first pattern counts',
      nested({
        'transformer.lora_alpha': 8,
        'transformer.alpha_pattern': { 'transformer_blocks.0.attn.to_out.0': 2, 'to_out.0': 12 },
      }),
      [0.5, 6, 2],
    ],
    [
      'over the root of the rank (rsLoRA)',
      nested({ 'transformer.lora_alpha': 4, 'transformer.use_rslora': true }),
      [2, 4 / Math.SQRT2, 2],
    ],
    ['of another network', nested({ 'text_encoder.lora_alpha': 16 }), [1, 1, 1]],
    ['as a tensor, which counts first', nested({ 'transformer.lora_alpha': 16 }), [4, 3, 4], [undefined, 6, undefined]],
  ])('%s', async (_, metadata, scales, alphas = []) => {
    const deltas: Deltas = new Map(
      LAYERS.map(({ weight, down, up }, i) => [
        weight,
        [{ delta: product(up, down).map((value) => scales[i]! * value) }],
      ]),
    )
    const more = LAYERS.flatMap(({ layer }, i) =>
      alphas[i] === undefined ? [] : [scalar(`transformer.${layer}.alpha`, alphas[i])],
    )
    await expectToActAs(
      flux,
      { path: await file(metadata, more) },
      await changedWeights(official, join(folder, 'merged.safetensors'), deltas),
      folder,
    )
  })
})

test.each<[string, string, RegExp, Record<string, string>]>([
  ['no JSON', 'FLUX_BAD_FILE', /lora_adapter_metadata is "\{", which is no JSON/, { lora_adapter_metadata: '{' }],
  ['a list', 'FLUX_BAD_FILE', /is no JSON object/, nested([] as never)],
  [
    'an alpha that is no number',
    'FLUX_BAD_FILE',
    /transformer\.lora_alpha is "much"; a number/,
    nested({ 'transformer.lora_alpha': 'much' }),
  ],
  [
    'a pattern that takes long',
    'FLUX_UNSUPPORTED',
    /pattern "\(a\+\)\+b"/,
    nested({ 'transformer.alpha_pattern': { '(a+)+b': 1 } }),
  ],
  ['a broken pattern', 'FLUX_UNSUPPORTED', /pattern "\*a"/, nested({ 'transformer.alpha_pattern': { '*a': 1 } })],
  [
    'too many patterns',
    'FLUX_BAD_FILE',
    /5000 patterns/,
    nested({ 'transformer.alpha_pattern': Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`x${i}`, 1])) }),
  ],
  ['DoRA', 'FLUX_UNSUPPORTED', /this is a DoRA \(transformer\.use_dora\)/, nested({ 'transformer.use_dora': true })],
])('metadata with %s is refused', async (_, code, message, metadata) => {
  const path = await file(metadata)
  await expect(flux.adapt([{ path }])).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message) as string,
  })
})
