import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { ClipTextEncoder, FluxTransformer, T5Encoder } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { goldenWeights } from '../support/golden.js'
import { factors, formatFile, FORMATS, joint, merged } from '../support/lora-formats.js'
import {
  changedWeights,
  expectToAct,
  expectToActAs,
  flat,
  hidden,
  kronecker,
  loraFile,
  numbers,
  official,
  product,
  RANK,
  scalar,
  tensorSource,
  weights,
  type Deltas,
} from '../support/lora.js'
import { readTensors, relL2, type Tensor } from '../support/safetensors.js'
import { temporaryFolder } from '../support/temporary.js'

// One set of factors, written in the names of every program, has to act as the matrices do that are made of the factors and added to the weights.

const folder = temporaryFolder()
let flux: FluxTransformer
beforeAll(async () => void (flux = await FluxTransformer.load(official, onTestBackend)))
afterAll(() => flux?.close())

describe('a LoRA', () => {
  let expected: string
  beforeAll(async () => void (expected = await merged(join(folder, 'merged.safetensors'), 0.8)))

  test.each(Object.keys(FORMATS))('of %s acts as merged weights do', async (format) => {
    const path = await formatFile(join(folder, 'lora.safetensors'), format)
    await expectToAct(flux, { path, scale: 0.8 }, expected, { change: 0.05 })
  })

  test("of XLabs acts on the double blocks' attention", async () => {
    const chosen = factors.filter(({ weight }) => /double_blocks.*_attn\./.test(weight))
    const sources = joint(chosen).flatMap(({ weight, down, up }) => {
      const [, block, stream, layer] = /^double_blocks\.(\d+)\.(img|txt)_attn\.(qkv|proj)/.exec(weight)!
      const name = `double_blocks.${block}.processor.${layer}_lora${stream === 'img' ? 1 : 2}`
      return [tensorSource(`${name}.down.weight`, down), tensorSource(`${name}.up.weight`, up)]
    })
    const path = await loraFile(join(folder, 'xlabs.safetensors'), sources)
    await expectToAct(flux, { path }, await merged(join(folder, 'xlabs-merged.safetensors'), 1, RANK, chosen))
  })
})

// LyCORIS' own formulas (lycoris/functional): LoHa (A1 B1) * (A2 B2), LoKr the Kronecker product, both times alpha / rank
describe('LyCORIS', () => {
  const strong = (rows: number, columns: number, seed: number) => numbers([rows, columns], seed, 1e-5)
  const NAMES: [file: string, weight: string, first: number][] = [
    ['lora_unet_double_blocks_0_img_attn_proj', 'double_blocks.0.img_attn.proj.weight', 0],
    ['lycoris_transformer_blocks_1_ff_net_2', 'double_blocks.1.img_mlp.2.weight', 0],
    ['transformer.single_transformer_blocks.0.attn.to_k', 'single_blocks.0.linear1.weight', hidden],
  ]
  /** `make` writes a layer of `hidden` rows under the file's name and gives what it adds. */
  const acts = async (
    make: (write: (suffix: string, tensor: Tensor) => void, input: number, i: number) => Float64Array,
  ) => {
    const [sources, deltas]: [TensorSource[], Deltas] = [[], new Map()]
    for (const [i, [file, weight, first]] of NAMES.entries()) {
      const write = (suffix: string, tensor: Tensor) => sources.push(tensorSource(`${file}.${suffix}`, tensor))
      deltas.set(weight, [{ first, delta: make(write, weights.get(weight)!.shape[1]!, i) }])
    }
    const path = await loraFile(join(folder, 'lycoris.safetensors'), sources)
    const expected = await changedWeights(official, join(folder, 'lycoris-merged.safetensors'), deltas)
    await expectToActAs(flux, { path }, expected, folder, { change: 0.02 })
  }
  const alpha = (value: number): Tensor => ({ shape: [], data: Float32Array.of(value) })

  test('LoHa', () =>
    acts((write, input, i) => {
      const [a1, b1] = [strong(hidden, 3, 10 + i), strong(3, input, 20 + i)]
      const [a2, b2] = [strong(hidden, 2, 30 + i), strong(2, input, 40 + i)]
      for (const [name, tensor] of Object.entries({ hada_w1_a: a1, hada_w1_b: b1, hada_w2_a: a2, hada_w2_b: b2 }))
        write(name, tensor)
      // rank 3, so that alpha / rank is 1e3
      write('alpha', alpha(3000))
      const [one, two] = [product(a1, b1), product(a2, b2)]
      return one.map((value, j) => 1000 * value * two[j]!)
    }))

  test.each([
    ['of whole matrices', false, false],
    ['with the second one of low rank', false, true],
    ['with both of low rank', true, true],
  ])('LoKr %s', (_, lowOuter, lowInner) =>
    acts((write, input, i) => {
      const make = (name: string, rows: number, columns: number, low: boolean, seed: number) => {
        if (!low) {
          const whole = strong(rows, columns, seed)
          write(name, whole)
          return whole
        }
        const [a, b] = [strong(rows, RANK, seed), strong(RANK, columns, seed + 1)]
        write(`${name}_a`, a)
        write(`${name}_b`, b)
        return { shape: [rows, columns], data: product(a, b) }
      }
      const outer = make('lokr_w1', 4, 8, lowOuter, 50 + i)
      const inner = make('lokr_w2', hidden / 4, input / 8, lowInner, 60 + i)
      write('alpha', alpha(6))
      // alpha counts where there is a rank
      const scale = lowOuter || lowInner ? 6 / RANK : 1
      return kronecker(outer, inner).map((value) => scale * value)
    }),
  )
})

describe('of the text encoders', () => {
  type Naming = (layer: string) => [down: string, up: string]
  const kohya =
    (prefix: string): Naming =>
    (layer) => [`${prefix}${flat(layer)}.lora_down.weight`, `${prefix}${flat(layer)}.lora_up.weight`]
  const peft =
    (prefix: string): Naming =>
    (layer) => [`${prefix}${layer}.lora_A.weight`, `${prefix}${layer}.lora_B.weight`]
  const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 50)

  /** A LoRA for the layers, and the encoder's weights with it. */
  const make = async (encoder: string, layers: string[], naming: Naming): Promise<[lora: string, changed: string]> => {
    const tensors = readTensors(encoder)
    const [sources, deltas]: [TensorSource[], Deltas] = [[], new Map()]
    for (const [i, layer] of layers.entries()) {
      const [rows, input] = tensors.get(`${layer}.weight`)!.shape as [number, number]
      const [down, up] = [numbers([RANK, input], 300 + i), numbers([rows, RANK], 400 + i)]
      sources.push(tensorSource(naming(layer)[0], down), tensorSource(naming(layer)[1], up))
      deltas.set(`${layer}.weight`, [{ delta: product(up, down) }])
    }
    return [
      await loraFile(join(folder, 'encoder-lora.safetensors'), sources),
      await changedWeights(encoder, join(folder, 'encoder-merged.safetensors'), deltas),
    ]
  }

  test.each([
    ['kohya', kohya('lora_te1_')],
    ['diffusers', peft('text_encoder.')],
  ])('CLIP, of %s', async (_, naming) => {
    const encoder = await goldenWeights('clip-tiny')
    const layers = ['text_model.encoder.layers.0.self_attn.v_proj', 'text_model.encoder.layers.1.mlp.fc1']
    const [path, merged] = await make(encoder, layers, naming)
    await using changed = await ClipTextEncoder.load(merged, onTestBackend)
    await using clip = await ClipTextEncoder.load(encoder, onTestBackend)
    const before = await clip.encode(tokens, { eos: 15 })
    await clip.adapt([{ path }])
    const [after, expected] = [await clip.encode(tokens, { eos: 15 }), await changed.encode(tokens, { eos: 15 })]
    expect(relL2(expected.hidden, before.hidden)).toBeGreaterThan(0.02)
    expect(relL2(after.hidden, expected.hidden)).toBeLessThan(1e-3)
  })

  test.each([
    ['kohya', kohya('lora_te3_')],
    ['OneTrainer', kohya('lora_te2_')],
    ['diffusers', peft('text_encoder_2.')],
  ])('T5, of %s', async (_, naming) => {
    const encoder = await goldenWeights('t5-tiny')
    const layers = ['encoder.block.0.layer.0.SelfAttention.v', 'encoder.block.1.layer.1.DenseReluDense.wo']
    const [path, merged] = await make(encoder, layers, naming)
    await using changed = await T5Encoder.load(merged, onTestBackend)
    await using t5 = await T5Encoder.load(encoder, onTestBackend)
    const before = await t5.encode(tokens)
    await t5.adapt([{ path }])
    const [after, expected] = [await t5.encode(tokens), await changed.encode(tokens)]
    expect(relL2(expected, before)).toBeGreaterThan(0.02)
    expect(relL2(after, expected)).toBeLessThan(1e-3)
    const stranger = await formatFile(join(folder, 'lora.safetensors'), 'kohya')
    await expect(t5.adapt([{ path: stranger }])).rejects.toThrow(/belongs to a layer of this T5 text encoder/)
  })
})

test.skipIf(process.platform === 'win32')(
  'a LoRA with hundreds of alphas is read where few files may be open',
  async () => {
    const zeros = (name: string, ...shape: [number, number]) =>
      tensorSource(name, { shape, data: new Float32Array(shape[0] * shape[1]) })
    const layers = Array.from({ length: 38 }, (_, i) =>
      ['attn.to_q', 'attn.to_k', 'attn.to_v', 'proj_mlp'].map((part) => `single_transformer_blocks.${i}.${part}`),
    ).flat()
    const sources = layers.flatMap((layer) => [
      zeros(`${layer}.lora_A.weight`, 1, 3072),
      zeros(`${layer}.lora_B.weight`, layer.endsWith('proj_mlp') ? 12288 : 3072, 1),
      scalar(`${layer}.alpha`, 6),
    ])
    const path = await loraFile(join(folder, 'many-alphas.safetensors'), sources)
    const child = fileURLToPath(new URL('./children/adapt.mjs', import.meta.url))
    const few = ['-c', 'ulimit -n 144; exec "$0" "$@"', process.execPath, child, path]
    const { stdout } = await promisify(execFile)('sh', few)
    expect(JSON.parse(stdout)).toMatchObject({
      role: 'lora',
      architecture: 'LoRA of rank 1: layers 152 in the FLUX transformer',
      problems: [],
    })
  },
)
