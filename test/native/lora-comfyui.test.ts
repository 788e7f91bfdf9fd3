import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { ClipTextEncoder, FluxTransformer, T5Encoder } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { devCase } from '../support/cases.js'
import { goldenWeights } from '../support/golden.js'
import {
  changedWeights,
  expectToActAs,
  halvesSwapped,
  hidden,
  loraFile,
  numbers,
  official,
  predicted,
  product,
  RANK,
  tensorSource,
  weights,
  type Deltas,
} from '../support/lora.js'
import { readTensors, relL2, type Tensor } from '../support/safetensors.js'
import { temporaryFolder } from '../support/temporary.js'

// Whole differences of weights (`.diff`, LyCORIS' "full") and biases (`.diff_b`), of norms (`.diff`, `.w_norm`, `.b_norm`), and norms that are replaced
// (`.set_weight`), as ComfyUI's LoRA and merge nodes and LyCORIS write them. All of them act times the strength.

const folder = temporaryFolder()

const headDim = weights.get('single_blocks.0.norm.key_norm.scale')!.shape[0]!

let flux: FluxTransformer
beforeAll(async () => void (flux = await FluxTransformer.load(official, onTestBackend)))
afterAll(() => flux?.close())

const lora = (
  name: string,
  rows: number,
  columns: number,
  seed: number,
): { sources: TensorSource[]; delta: Float64Array } => {
  const [down, up] = [numbers([RANK, columns], seed), numbers([rows, RANK], seed + 1)]
  return {
    sources: [tensorSource(`${name}.lora_down.weight`, down), tensorSource(`${name}.lora_up.weight`, up)],
    delta: product(up, down),
  }
}
const whole = (shape: number[], seed: number) => numbers(shape, seed, 3e-7)

/** A case: what the file calls a tensor, the tensor, and what it adds to. */
type Entry = [name: string, tensor: Tensor, weight: string, first?: number, delta?: ArrayLike<number>]
const out = whole([2 * hidden, hidden], 3)
const outBias = whole([2 * hidden], 4)
const CASES: Record<string, Entry[]> = {
  'differences of matrices': [
    [
      'diffusion_model.double_blocks.0.img_attn.proj.diff',
      whole([hidden, hidden], 1),
      'double_blocks.0.img_attn.proj.weight',
    ],
    ['lora_unet_single_blocks_1_linear2.diff', whole([hidden, 5 * hidden], 2), 'single_blocks.1.linear2.weight'],
    [
      'lycoris_transformer_blocks_1_attn_to_k.diff',
      whole([hidden, hidden], 5),
      'double_blocks.1.img_attn.qkv.weight',
      hidden,
    ],
    [
      'lycoris_norm_out_linear.diff',
      out,
      'final_layer.adaLN_modulation.1.weight',
      0,
      halvesSwapped(out.data as Float32Array),
    ],
  ],
  'differences of biases': [
    [
      'diffusion_model.double_blocks.0.img_attn.proj.diff_b',
      numbers([hidden], 11, 3e-5),
      'double_blocks.0.img_attn.proj.bias',
    ],
    ['diffusion_model.double_blocks.1.txt_mlp.2.diff_b', numbers([hidden], 12, 3e-5), 'double_blocks.1.txt_mlp.2.bias'],
    [
      'lycoris_single_transformer_blocks_0_proj_mlp.diff_b',
      numbers([4 * hidden], 13, 3e-5),
      'single_blocks.0.linear1.bias',
      3 * hidden,
    ],
    [
      'lycoris_norm_out_linear.diff_b',
      outBias,
      'final_layer.adaLN_modulation.1.bias',
      0,
      halvesSwapped(outBias.data as Float32Array),
    ],
  ],
  'differences of norms': [
    [
      'lycoris_transformer_blocks_0_attn_norm_q.w_norm',
      numbers([headDim], 21, 3e-5),
      'double_blocks.0.img_attn.norm.query_norm.scale',
    ],
    [
      'diffusion_model.double_blocks.1.txt_attn.norm.key_norm.scale.diff',
      numbers([headDim], 22, 3e-5),
      'double_blocks.1.txt_attn.norm.key_norm.scale',
    ],
    [
      'diffusion_model.single_blocks.0.norm.query_norm.diff',
      numbers([headDim], 23, 3e-5),
      'single_blocks.0.norm.query_norm.scale',
    ],
  ],
}

describe.each([1, 0.5])('at strength %d', (scale) => {
  test.each(Object.entries(CASES))('%s', async (_, entries) => {
    const deltas: Deltas = new Map(
      entries.map(([, tensor, weight, first = 0, delta = tensor.data]) => [weight, [{ first, delta }]]),
    )
    const expected = await changedWeights(official, join(folder, 'merged.safetensors'), deltas, scale)
    const path = await loraFile(
      join(folder, 'diff.safetensors'),
      entries.map(([name, tensor]) => tensorSource(name, tensor)),
    )
    await expectToActAs(flux, { path, scale }, expected, folder)
  })

  test('norms that are set', async () => {
    const names = new Map([
      [
        'diffusion_model.double_blocks.0.img_attn.norm.query_norm.scale.set_weight',
        'double_blocks.0.img_attn.norm.query_norm.scale',
      ],
      [
        'diffusion_model.double_blocks.1.img_attn.norm.key_norm.set_weight',
        'double_blocks.1.img_attn.norm.key_norm.scale',
      ],
      ['diffusion_model.single_blocks.1.norm.query_norm.weight.set_weight', 'single_blocks.1.norm.query_norm.scale'],
    ])
    const values = new Map(
      [...names.values()].map((name, i) => [
        name,
        Float32Array.from({ length: headDim }, (_, j) => 1 + Math.sin(i + j) / 2),
      ]),
    )
    const between = new Map(
      [...values].map(([name, data]) => [
        name,
        (old: Float32Array) => old.map((value, i) => value + scale * (data[i]! - value)),
      ]),
    )
    const expected = await changedWeights(official, join(folder, 'set-merged.safetensors'), new Map(), scale, between)
    const path = await loraFile(
      join(folder, 'set.safetensors'),
      [...names].map(([file, name]) => tensorSource(file, { shape: [headDim], data: values.get(name)! })),
    )
    await expectToActAs(flux, { path, scale }, expected, folder)
  })

  test('all of it in one layer, beside low-rank matrices', async () => {
    const layer = 'double_blocks.1.img_attn.proj'
    const { sources, delta } = lora(`diffusion_model.${layer}`, hidden, hidden, 31)
    const [difference, bias] = [whole([hidden, hidden], 33), numbers([hidden], 34, 3e-5)]
    const deltas: Deltas = new Map([
      [`${layer}.weight`, [{ delta }, { delta: difference.data }]],
      [`${layer}.bias`, [{ delta: bias.data }]],
    ])
    const path = await loraFile(join(folder, 'mixed.safetensors'), [
      ...sources,
      tensorSource(`diffusion_model.${layer}.diff`, difference),
      tensorSource(`diffusion_model.${layer}.diff_b`, bias),
    ])
    await expectToActAs(
      flux,
      { path, scale },
      await changedWeights(official, join(folder, 'mixed-merged.safetensors'), deltas, scale),
      folder,
    )
  })
})

test('a layer by two names acts once, and the second name is told', async () => {
  const { sources, delta } = lora('lora_unet_double_blocks_0_img_attn_proj', hidden, hidden, 41)
  const again = sources.map((source) => ({
    ...source,
    name: source.name.replace(
      'lora_unet_double_blocks_0_img_attn_proj',
      'transformer.transformer_blocks.0.attn.to_out.0',
    ),
  }))
  const path = await loraFile(join(folder, 'twice.safetensors'), [...sources, ...again])
  expect(await flux.adapt([{ path }])).toEqual([again.map(({ name }) => name)])
  const expected = await changedWeights(
    official,
    join(folder, 'once.safetensors'),
    new Map([['double_blocks.0.img_attn.proj.weight', [{ delta }]]]),
  )
  expect(relL2(await flux.predict(devCase('b')), await predicted(expected))).toBeLessThan(1e-3)
})

test.each([
  ['a matrix', 'double_blocks.0.img_attn.proj.diff', [hidden, 3]],
  ['a bias', 'double_blocks.0.img_attn.proj.diff_b', [3]],
  ['a norm', 'double_blocks.0.img_attn.norm.query_norm.diff', [3]],
])('a difference of another size for %s is refused', async (_, name, shape) => {
  const path = await loraFile(join(folder, 'wrong.safetensors'), [tensorSource(name, whole(shape, 1))])
  await expect(flux.adapt([{ path }])).rejects.toMatchObject({
    code: 'FLUX_BAD_FILE',
    message: expect.stringMatching(/has shape \[.*\], but \[.*\] is needed/) as string,
  })
})

describe('of the text encoders', () => {
  const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 50)
  const encoders = {
    clip: {
      golden: 'clip-tiny',
      prefix: 'text_encoders.clip_l.transformer.',
      matrix: 'text_model.encoder.layers.0.self_attn.v_proj',
      norms: [
        'text_model.encoder.layers.1.layer_norm2.weight',
        'text_model.final_layer_norm.weight',
        'text_model.encoder.layers.0.layer_norm1.bias',
      ],
      biases: ['text_model.encoder.layers.1.mlp.fc1.bias'],
    },
    t5: {
      golden: 't5-tiny',
      prefix: 'text_encoders.t5xxl.transformer.',
      matrix: 'encoder.block.0.layer.0.SelfAttention.v',
      norms: ['encoder.block.1.layer.1.layer_norm.weight', 'encoder.final_layer_norm.weight'],
      biases: [],
    },
  } as const
  const encode = async (
    kind: 'clip' | 't5',
    path: string,
    loras: { path: string; scale: number }[] = [],
  ): Promise<{ states: Float32Array; left: string[][] }> => {
    if (kind === 't5') {
      await using t5 = await T5Encoder.load(path, onTestBackend)
      const left = await t5.adapt(loras)
      return { states: await t5.encode(tokens), left }
    }
    await using clip = await ClipTextEncoder.load(path, onTestBackend)
    const left = await clip.adapt(loras)
    return { states: (await clip.encode(tokens, { eos: 15 })).hidden, left }
  }

  test.each(['clip', 't5'] as const)('%s: low-rank matrices, norms and biases', async (kind) => {
    const { prefix, matrix, norms, biases } = encoders[kind]
    const golden = await goldenWeights(encoders[kind].golden)
    const tensors = readTensors(golden)
    const [rows, columns] = tensors.get(`${matrix}.weight`)!.shape as [number, number]
    const { sources, delta } = lora(prefix + matrix, rows, columns, 51)
    const deltas: Deltas = new Map([[`${matrix}.weight`, [{ delta }]]])
    for (const [i, name] of [...norms, ...biases].entries()) {
      const difference = numbers(tensors.get(name)!.shape, 60 + i, 1e-5)
      sources.push(tensorSource(prefix + name.replace(/\.weight$/, '.diff').replace(/\.bias$/, '.diff_b'), difference))
      deltas.set(name, [{ delta: difference.data }])
    }
    const path = await loraFile(join(folder, `${kind}.safetensors`), sources)
    const expected = await encode(
      kind,
      await changedWeights(golden, join(folder, `${kind}-merged.safetensors`), deltas, 0.6),
    )
    const plain = await encode(kind, golden)
    const { states, left } = await encode(kind, golden, [{ path, scale: 0.6 }])
    expect(left).toEqual([[]])
    expect(relL2(expected.states, plain.states)).toBeGreaterThan(0.02)
    expect(relL2(states, expected.states)).toBeLessThan(1e-3)
  })
})
