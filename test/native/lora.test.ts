import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { convert } from '../../lib/tools/convert.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { nativeQuantize as quantize } from '../../lib/native/addon.js'
import { openModelFile } from '../../lib/formats/open.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { ClipTextEncoder, FluxTransformer, T5Encoder, type LoraOptions } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { devCase } from '../support/cases.js'
import { convertWeights } from '../support/convert.js'
import { rewrite } from '../support/dialects.js'
import { goldenValues, goldenWeights } from '../support/golden.js'
import { readTensors, relL2, type Tensor } from '../support/safetensors.js'
import { collect, loadTiny, SMALL } from '../support/tiny.js'

// One set of factors, written in the names of every program, has to act as the matrices do that are made of the factors and added to the weights.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-lora-'))
afterAll(() => rmSync(folder, { recursive: true }))

const RANK = 4
const ALPHA = 6
const official = await goldenWeights('flux-dev-tiny')
const weights = readTensors(official)
const hidden = weights.get('img_in.weight')!.shape[0]!

interface Factors {
  /** in the names of diffusers */
  layer: string
  /** the official matrix and its row that the addition begins at */
  weight: string
  first: number
  down: Tensor
  up: Tensor
}

function matrix(rows: number, columns: number, seed: number): Tensor {
  const data = new Float32Array(rows * columns)
  goldenValues(data, { seed, mean: 0, scale: 4e-6 })
  return { shape: [rows, columns], data }
}

const LAYERS: [layer: string, weight: string, part: number][] = [
  ['transformer_blocks.0.attn.to_q', 'double_blocks.0.img_attn.qkv.weight', 0],
  ['transformer_blocks.0.attn.to_k', 'double_blocks.0.img_attn.qkv.weight', 1],
  ['transformer_blocks.0.attn.to_v', 'double_blocks.0.img_attn.qkv.weight', 2],
  ['transformer_blocks.0.attn.add_v_proj', 'double_blocks.0.txt_attn.qkv.weight', 2],
  ['transformer_blocks.1.attn.to_out.0', 'double_blocks.1.img_attn.proj.weight', -1],
  ['transformer_blocks.1.ff_context.net.2', 'double_blocks.1.txt_mlp.2.weight', -1],
  ['transformer_blocks.0.norm1.linear', 'double_blocks.0.img_mod.lin.weight', -1],
  ['single_transformer_blocks.0.attn.to_v', 'single_blocks.0.linear1.weight', 2],
  ['single_transformer_blocks.0.proj_mlp', 'single_blocks.0.linear1.weight', 3],
  ['single_transformer_blocks.1.proj_out', 'single_blocks.1.linear2.weight', -1],
  ['x_embedder', 'img_in.weight', -1],
]
const factors: Factors[] = LAYERS.map(([layer, weight, part], i) => {
  const [rows, input] = weights.get(weight)!.shape as [number, number]
  const count = part < 0 ? rows : part === 3 ? 4 * hidden : hidden
  return {
    layer,
    weight,
    first: Math.max(0, part) * hidden,
    down: matrix(RANK, input, 100 + i),
    up: matrix(count, RANK, 200 + i),
  }
})

/** The weights with scale * alpha / rank * up down added to them. */
async function merged(scale: number, alpha: number, chosen = factors): Promise<string> {
  return rewrite(official, join(folder, 'merged.safetensors'), (name, tensor) => {
    const data = new Float32Array(tensor.data as Float32Array)
    for (const { weight, first, down, up } of chosen) {
      if (weight !== name) continue
      const input = down.shape[1]!
      for (let row = 0; row < up.shape[0]!; row++) {
        for (let i = 0; i < input; i++) {
          let sum = 0
          for (let r = 0; r < RANK; r++) sum += up.data[row * RANK + r]! * down.data[r * input + i]!
          data[(first + row) * input + i]! += ((scale * alpha) / RANK) * sum
        }
      }
    }
    return [[name, { ...tensor, data }]]
  })
}

const bytes = ({ shape, data }: Tensor, name: string): TensorSource => ({
  name,
  shape,
  type: 'F32',
  data: new Uint8Array((data as Float32Array).slice().buffer),
})
const alphaTensor = (name: string): TensorSource => ({
  name,
  shape: [1],
  type: 'F32',
  data: new Uint8Array(Float32Array.of(ALPHA).buffer),
})

/** Official names have query, key and value in one matrix: the factors below one another, and in blocks. */
function joint(all: Factors[]): Factors[] {
  const groups = new Map<string, Factors[]>()
  for (const one of all) groups.set(one.weight, [...(groups.get(one.weight) ?? []), one])
  return [...groups].map(([weight, list]) => {
    const [rows, input] = weights.get(weight)!.shape as [number, number]
    if (list.length === 1 && list[0]!.up.shape[0] === rows) return list[0]!
    const rank = RANK * list.length
    const [down, up] = [new Float32Array(rank * input), new Float32Array(rows * rank)]
    for (const [i, part] of list.entries()) {
      down.set(part.down.data as Float32Array, i * RANK * input)
      for (let row = 0; row < part.up.shape[0]!; row++) {
        for (let r = 0; r < RANK; r++) up[(part.first + row) * rank + i * RANK + r] = part.up.data[row * RANK + r]!
      }
    }
    return {
      layer: '',
      weight,
      first: 0,
      down: { shape: [rank, input], data: down },
      up: { shape: [rows, rank], data: up },
    }
  })
}
/** An alpha that makes alpha / rank the same for every layer, since joining raises the rank. */
const alphaFor = (name: string, { down }: Factors): TensorSource => ({
  name,
  shape: [],
  type: 'F32',
  data: new Uint8Array(Float32Array.of((ALPHA / RANK) * down.shape[0]!).buffer),
})

const officialName = ({ weight }: Factors) => weight.replace(/\.weight$/, '')
const flat = (name: string) => name.replaceAll('.', '_')
const FORMATS: Record<string, () => TensorSource[]> = {
  'diffusers and PEFT': () =>
    factors.flatMap((f) => [
      bytes(f.down, `transformer.${f.layer}.lora_A.weight`),
      bytes(f.up, `transformer.${f.layer}.lora_B.weight`),
      alphaTensor(`transformer.${f.layer}.alpha`),
    ]),
  'PEFT with an adapter of its own name': () =>
    factors.flatMap((f) => [
      bytes(f.down, `base_model.model.${f.layer}.lora_A.default.weight`),
      bytes(f.up, `base_model.model.${f.layer}.lora_B.default.weight`),
      alphaTensor(`base_model.model.${f.layer}.alpha`),
    ]),
  kohya: () =>
    joint(factors).flatMap((f) => [
      bytes(f.down, `lora_unet_${flat(officialName(f))}.lora_down.weight`),
      bytes(f.up, `lora_unet_${flat(officialName(f))}.lora_up.weight`),
      alphaFor(`lora_unet_${flat(officialName(f))}.alpha`, f),
    ]),
  OneTrainer: () =>
    factors.flatMap((f) => [
      bytes(f.down, `lora_transformer_${flat(f.layer)}.lora_down.weight`),
      bytes(f.up, `lora_transformer_${flat(f.layer)}.lora_up.weight`),
      alphaTensor(`lora_transformer_${flat(f.layer)}.alpha`),
    ]),
  'official names': () =>
    joint(factors).flatMap((f) => [
      bytes(f.down, `${officialName(f)}.lora_A.weight`),
      bytes(f.up, `${officialName(f)}.lora_B.weight`),
      alphaFor(`${officialName(f)}.alpha`, f),
    ]),
  ComfyUI: () =>
    joint(factors).flatMap((f) => [
      bytes(f.down, `diffusion_model.${officialName(f)}.lora_down.weight`),
      bytes(f.up, `diffusion_model.${officialName(f)}.lora_up.weight`),
      alphaFor(`diffusion_model.${officialName(f)}.alpha`, f),
    ]),
}

async function loraFile(format: string, more: TensorSource[] = []): Promise<string> {
  const path = join(folder, `${flat(format.replaceAll(' ', '_'))}.safetensors`)
  await writeModelFile(path, [...FORMATS[format]!(), ...more])
  return path
}

async function predicted(path: string): Promise<Float32Array> {
  await using flux = await FluxTransformer.load(path, onTestBackend)
  return flux.predict(devCase('b'))
}

/** `convert` has to write the weights of `expected` where it merges the LoRAs. */
async function mergesTo(expected: string, loras: LoraOptions[]): Promise<void> {
  const { path, left } = await convert(official, join(folder, 'converted.safetensors'), { type: 'F32', loras })
  expect(left.flat()).toEqual([])
  const actual = readTensors(path)
  for (const [name, { data }] of readTensors(expected))
    expect(relL2(actual.get(name)!.data as Float32Array, data as Float32Array), name).toBeLessThan(1e-6)
}

let flux: FluxTransformer
let plain: Float32Array
beforeAll(async () => {
  flux = await FluxTransformer.load(official, onTestBackend)
  plain = await flux.predict(devCase('b'))
})
afterAll(() => flux?.close())

describe('a LoRA', () => {
  test.each(Object.keys(FORMATS))('of %s acts as merged weights do', async (format) => {
    const expected = await predicted(await merged(0.8, ALPHA))
    expect(await flux.adapt([{ path: await loraFile(format), scale: 0.8 }])).toEqual([[]])
    const actual = await flux.predict(devCase('b'))
    expect(relL2(expected, plain)).toBeGreaterThan(0.05)
    // ggml's GELU comes from a table of half precision
    expect(relL2(actual, expected)).toBeLessThan(1e-3)
  })

  test.each(Object.keys(FORMATS))('of %s is merged by convert', async (format) =>
    mergesTo(await merged(0.8, ALPHA), [{ path: await loraFile(format), scale: 0.8 }]),
  )

  test("of XLabs acts on the double blocks' attention", async () => {
    const chosen = factors.filter(({ weight }) => /double_blocks.*_attn\./.test(weight))
    const expected = await predicted(await merged(1, RANK, chosen))
    const sources = joint(chosen).flatMap((f) => {
      const [, block, stream, layer] = /^double_blocks\.(\d+)\.(img|txt)_attn\.(qkv|proj)/.exec(f.weight)!
      const name = `double_blocks.${block}.processor.${layer}_lora${stream === 'img' ? 1 : 2}`
      return [bytes(f.down, `${name}.down.weight`), bytes(f.up, `${name}.up.weight`)]
    })
    const path = join(folder, 'xlabs.safetensors')
    await writeModelFile(path, sources)
    expect(await flux.adapt([{ path }])).toEqual([[]])
    expect(relL2(await flux.predict(devCase('b')), expected)).toBeLessThan(1e-3)
  })

  // LyCORIS' own formulas (lycoris/functional): LoHa (A1 B1) * (A2 B2), LoKr the Kronecker product, both times alpha / rank
  describe('of LyCORIS', () => {
    const product = ([rows, rank, columns]: [number, number, number], a: Tensor, b: Tensor): Float64Array => {
      const result = new Float64Array(rows * columns)
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          for (let r = 0; r < rank; r++) result[i * columns + j]! += a.data[i * rank + r]! * b.data[r * columns + j]!
        }
      }
      return result
    }
    const strong = (rows: number, columns: number, seed: number): Tensor => {
      const data = new Float32Array(rows * columns)
      goldenValues(data, { seed, mean: 0, scale: 1e-5 })
      return { shape: [rows, columns], data }
    }
    const NAMES: [file: string, weight: string, first: number, rows: number][] = [
      ['lora_unet_double_blocks_0_img_attn_proj', 'double_blocks.0.img_attn.proj.weight', 0, hidden],
      ['lycoris_transformer_blocks_1_ff_net_2', 'double_blocks.1.img_mlp.2.weight', 0, hidden],
      ['transformer.single_transformer_blocks.0.attn.to_k', 'single_blocks.0.linear1.weight', hidden, hidden],
    ]
    /** The weights with `delta` of each layer added to them. */
    const added = (deltas: Map<string, { first: number; delta: ArrayLike<number> }>) =>
      rewrite(official, join(folder, 'lycoris-merged.safetensors'), (name, tensor) => {
        const data = new Float32Array(tensor.data as Float32Array)
        const { first, delta } = deltas.get(name) ?? { first: 0, delta: [] }
        for (let i = 0; i < delta.length; i++) data[first * tensor.shape[1]! + i]! += delta[i]!
        return [[name, { ...tensor, data }]]
      })
    const acts = async (sources: TensorSource[], deltas: Map<string, { first: number; delta: ArrayLike<number> }>) => {
      const path = join(folder, 'lycoris.safetensors')
      await writeModelFile(path, sources)
      expect(await flux.adapt([{ path }])).toEqual([[]])
      const file = await added(deltas)
      const expected = await predicted(file)
      expect(relL2(expected, plain)).toBeGreaterThan(0.02)
      await mergesTo(file, [{ path }])
      expect(relL2(await flux.predict(devCase('b')), expected)).toBeLessThan(1e-3)
    }

    test('LoHa', async () => {
      const [sources, deltas] = [[] as TensorSource[], new Map<string, { first: number; delta: Float64Array }>()]
      for (const [i, [file, weight, first, rows]] of NAMES.entries()) {
        const input = weights.get(weight)!.shape[1]!
        const [a1, b1, a2, b2] = [
          strong(rows, 3, 10 + i),
          strong(3, input, 20 + i),
          strong(rows, 2, 30 + i),
          strong(2, input, 40 + i),
        ]
        for (const [name, tensor] of Object.entries({ hada_w1_a: a1, hada_w1_b: b1, hada_w2_a: a2, hada_w2_b: b2 }))
          sources.push(bytes(tensor, `${file}.${name}`))
        // rank 3, so that alpha / rank is 1e3
        sources.push({
          name: `${file}.alpha`,
          shape: [],
          type: 'F32',
          data: new Uint8Array(Float32Array.of(3000).buffer),
        })
        const [one, two] = [product([rows, 3, input], a1, b1), product([rows, 2, input], a2, b2)]
        deltas.set(weight, { first, delta: one.map((value, j) => 1000 * value * two[j]!) })
      }
      await acts(sources, deltas)
    })

    test.each([
      ['of whole matrices', false, false],
      ['with the second one of low rank', false, true],
      ['with both of low rank', true, true],
    ])('LoKr %s', async (_, lowOuter, lowInner) => {
      const [sources, deltas] = [[] as TensorSource[], new Map<string, { first: number; delta: Float64Array }>()]
      for (const [i, [file, weight, first, rows]] of NAMES.entries()) {
        const input = weights.get(weight)!.shape[1]!
        const [outer, inner] = [
          { rows: 4, columns: 8 },
          { rows: rows / 4, columns: input / 8 },
        ]
        const make = (name: string, size: typeof outer, low: boolean, seed: number): ArrayLike<number> => {
          if (!low) {
            const whole = strong(size.rows, size.columns, seed)
            sources.push(bytes(whole, `${file}.${name}`))
            return whole.data as Float32Array
          }
          const [a, b] = [strong(size.rows, RANK, seed), strong(RANK, size.columns, seed + 1)]
          sources.push(bytes(a, `${file}.${name}_a`), bytes(b, `${file}.${name}_b`))
          return product([size.rows, RANK, size.columns], a, b)
        }
        const [one, two] = [make('lokr_w1', outer, lowOuter, 50 + i), make('lokr_w2', inner, lowInner, 60 + i)]
        sources.push({
          name: `${file}.alpha`,
          shape: [],
          type: 'F32',
          data: new Uint8Array(Float32Array.of(ALPHA).buffer),
        })
        const scale = lowOuter || lowInner ? ALPHA / RANK : 1
        const delta = new Float64Array(rows * input)
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < input; column++) {
            const [i, k, j, l] = [
              Math.floor(row / inner.rows),
              row % inner.rows,
              Math.floor(column / inner.columns),
              column % inner.columns,
            ]
            delta[row * input + column] = scale * one[i * outer.columns + j]! * two[k * inner.columns + l]!
          }
        }
        deltas.set(weight, { first, delta })
      }
      await acts(sources, deltas)
    })
  })

  test('with a bias, as the official ones have it', async () => {
    const { down, up } = factors[4]!
    const bias = matrix(1, hidden, 9)
    const path = join(folder, 'bias.safetensors')
    const layer = 'double_blocks.1.img_attn.proj'
    await writeModelFile(path, [
      bytes(down, `${layer}.lora_A.weight`),
      bytes(up, `${layer}.lora_B.weight`),
      bytes({ shape: [hidden], data: bias.data }, `${layer}.lora_B.bias`),
    ])
    expect(await flux.adapt([{ path, scale: 0.5 }])).toEqual([[]])
    const source = await merged(0.5, RANK, [factors[4]!])
    const expected = await rewrite(source, join(folder, 'bias-merged.safetensors'), (name, tensor) => {
      const more = name === `${layer}.bias` ? (bias.data as Float32Array) : undefined
      return [
        [
          name,
          {
            ...tensor,
            data: more ? (tensor.data as Float32Array).map((value, i) => value + 0.5 * more[i]!) : tensor.data,
          },
        ],
      ]
    })
    expect(relL2(await flux.predict(devCase('b')), await predicted(expected))).toBeLessThan(1e-3)
    await mergesTo(expected, [{ path, scale: 0.5 }])
  })

  // The official LoRAs for Canny and Depth: the picture's input reads twice as many channels, of which the model's own weights see the first half, and
  // norms are replaced. Their reference is a transformer made so.
  describe('for control pictures', () => {
    const [, input] = weights.get('img_in.weight')!.shape as [number, number]
    const wide = 2 * input
    const NORMS = [
      ['double_blocks.0.img_attn.norm.query_norm.scale', 'double_blocks.0.img_attn.norm.query_norm.scale'],
      ['transformer.transformer_blocks.1.attn.norm_added_k.weight', 'double_blocks.1.txt_attn.norm.key_norm.scale'],
      ['single_blocks.1.norm.key_norm.scale', 'single_blocks.1.norm.key_norm.scale'],
    ] as const
    const [down, up, bias] = [matrix(RANK, wide, 70), matrix(hidden, RANK, 71), matrix(1, hidden, 72)]
    const norms = new Map(
      NORMS.map(([, name], i) => [
        name as string,
        Float32Array.from(weights.get(name)!.data, (_, j) => 1 + Math.sin(i + j) / 2),
      ]),
    )
    // ComfyUI adds the widened layer's size
    const size = bytes({ shape: [2], data: Float32Array.of(hidden, wide) }, 'img_in.reshape_weight')
    const control = [
      bytes(down, 'img_in.lora_A.weight'),
      bytes(up, 'img_in.lora_B.weight'),
      bytes({ shape: [hidden], data: bias.data }, 'img_in.lora_B.bias'),
      size,
    ]
    const replaced = NORMS.map(([file, name]) =>
      bytes({ shape: [norms.get(name)!.length], data: norms.get(name)! }, file),
    )
    const between = (name: string, old: Float32Array, scale: number) =>
      old.map((value, i) => value + scale * (norms.get(name)![i]! - value))

    test.each([1, 0.5])('norms are replaced, strength %d', async (scale) => {
      const path = join(folder, 'norms.safetensors')
      // in a file of norms alone they would be a model's
      const nothing = [
        bytes(matrix(RANK, hidden, 75), 'double_blocks.0.img_attn.proj.lora_A.weight'),
        bytes(
          { shape: [hidden, RANK], data: new Float32Array(hidden * RANK) },
          'double_blocks.0.img_attn.proj.lora_B.weight',
        ),
      ]
      await writeModelFile(path, [...replaced, ...nothing])
      expect(await flux.adapt([{ path, scale }])).toEqual([[]])
      const expected = await rewrite(official, join(folder, 'norms-merged.safetensors'), (name, tensor) => [
        [name, norms.has(name) ? { ...tensor, data: between(name, tensor.data as Float32Array, scale) } : tensor],
      ])
      expect(relL2(await predicted(expected), plain)).toBeGreaterThan(0.01)
      expect(relL2(await flux.predict(devCase('b')), await predicted(expected))).toBeLessThan(1e-5)
      await mergesTo(expected, [{ path, scale }])
    })

    test('the input is widened', async () => {
      const path = join(folder, 'control.safetensors')
      await writeModelFile(path, [...control, ...replaced])
      const scale = 0.8
      const expected = await rewrite(official, join(folder, 'control-merged.safetensors'), (name, tensor) => {
        const old = tensor.data as Float32Array
        if (norms.has(name)) return [[name, { ...tensor, data: between(name, old, scale) }]]
        if (name === 'img_in.bias')
          return [[name, { ...tensor, data: old.map((value, i) => value + scale * bias.data[i]!) }]]
        if (name !== 'img_in.weight') return [[name, tensor]]
        const data = Float32Array.from({ length: hidden * wide }, (_, i) => {
          const [row, column] = [Math.floor(i / wide), i % wide]
          let sum = 0
          for (let r = 0; r < RANK; r++) sum += up.data[row * RANK + r]! * down.data[r * wide + column]!
          return (column < input ? old[row * input + column]! : 0) + scale * sum
        })
        return [[name, { shape: [hidden, wide], data }]]
      })
      const case_ = devCase('b')
      const tokens = case_.img.length / input
      const img = Float32Array.from({ length: tokens * wide }, (_, i) =>
        i % wide < input ? case_.img[Math.floor(i / wide) * input + (i % wide)]! : Math.sin(i),
      )
      await using reference = await FluxTransformer.load(expected, onTestBackend)
      expect(reference.channels).toBe(wide)
      expect(flux.channels).toBe(input)
      expect(await flux.adapt([{ path, scale }])).toEqual([[]])
      expect(flux.channels).toBe(wide)
      expect(relL2(await flux.predict({ ...case_, img }), await reference.predict({ ...case_, img }))).toBeLessThan(
        1e-5,
      )
      // beside one that reads the picture alone
      const narrow = join(folder, 'narrow.safetensors')
      await writeModelFile(narrow, [
        bytes(matrix(RANK, input, 73), 'img_in.lora_A.weight'),
        bytes(matrix(hidden, RANK, 74), 'img_in.lora_B.weight'),
      ])
      const before = await flux.predict({ ...case_, img })
      await flux.adapt([{ path, scale }, { path: narrow }])
      expect(relL2(await flux.predict({ ...case_, img }), before)).toBeGreaterThan(1e-4)
      await expect(flux.predict(case_)).rejects.toMatchObject({ code: 'FLUX_BAD_SHAPE' })
      await flux.adapt([])
      expect(await flux.predict(case_)).toEqual(plain)
      await expect(
        convert(official, join(folder, 'no.gguf'), { type: 'F16', loras: [{ path }] }),
      ).rejects.toMatchObject({ code: 'FLUX_UNSUPPORTED', message: expect.stringContaining('widens') as string })
    })
  })

  test('with strength 0, or taken away, is as if it were not there: the same bytes', async () => {
    const path = await loraFile('kohya')
    await flux.adapt([{ path }])
    expect(await flux.predict(devCase('b'))).not.toEqual(plain)
    await flux.adapt([{ path, scale: 0 }])
    expect(await flux.predict(devCase('b'))).toEqual(plain)
    await flux.adapt([{ path }])
    await flux.adapt([])
    expect(await flux.predict(devCase('b'))).toEqual(plain)
  })

  test('twice at half strength is one, and two of different files add up', async () => {
    const [one, other] = [await loraFile('kohya'), await loraFile('diffusers and PEFT')]
    await flux.adapt([{ path: one }])
    const whole = await flux.predict(devCase('b'))
    await flux.adapt([
      { path: one, scale: 0.5 },
      { path: other, scale: 0.5 },
    ])
    expect(relL2(await flux.predict(devCase('b')), whole)).toBeLessThan(1e-3)
  })

  test('acts beside quantised weights, which stay as they are', async () => {
    const quantised = await convertWeights(official, join(folder, 'q8.gguf'), { type: 'Q8_0', quantize })
    await using coarse = await FluxTransformer.load(quantised, onTestBackend)
    const before = await coarse.predict(devCase('b'))
    await coarse.adapt([{ path: await loraFile('kohya') }])
    const [after, expected] = [await coarse.predict(devCase('b')), await predicted(await merged(1, ALPHA))]
    expect(relL2(after, expected)).toBeLessThan(relL2(before, plain) + 0.02)
    await coarse.adapt([])
    expect(await coarse.predict(devCase('b'))).toEqual(before)
  })

  test('tells the names that belong to nothing', async () => {
    const text = 'lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight'
    const path = await loraFile('kohya', [bytes(matrix(RANK, 64, 1), text)])
    expect(await flux.adapt([{ path }])).toEqual([[text]])
  })
})

test('what convert cannot merge, it refuses', async () => {
  const path = await loraFile('kohya')
  const t5 = await goldenWeights('t5-tiny')
  const into = (input: string, loras: LoraOptions[]) =>
    convert(input, join(folder, 'refused.gguf'), { type: 'F16', loras })
  await expect(into(t5, [{ path }])).rejects.toMatchObject({
    code: 'FLUX_UNSUPPORTED',
    message: expect.stringMatching(/into a transformer only/) as string,
  })
  await expect(into(official, [{ path, scale: 1e9 }])).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
})

describe('of the text encoders', () => {
  const factorsOf = (tensors: Map<string, Tensor>, layers: string[]) =>
    layers.map((layer, i) => {
      const [rows, input] = tensors.get(`${layer}.weight`)!.shape as [number, number]
      return { layer, down: matrix(RANK, input, 300 + i), up: matrix(rows, RANK, 400 + i) }
    })
  const mergedEncoder = (weights: string, name: string, factors: ReturnType<typeof factorsOf>) =>
    rewrite(weights, join(folder, name), (tensorName, tensor) => {
      const own = factors.find(({ layer }) => `${layer}.weight` === tensorName)
      if (!own) return [[tensorName, tensor]]
      const data = new Float32Array(tensor.data as Float32Array)
      const [rows, input] = tensor.shape as [number, number]
      for (let row = 0; row < rows; row++) {
        for (let i = 0; i < input; i++) {
          for (let r = 0; r < RANK; r++)
            data[row * input + i]! += own.up.data[row * RANK + r]! * own.down.data[r * input + i]!
        }
      }
      return [[tensorName, { ...tensor, data }]]
    })
  const file = async (
    name: string,
    factors: ReturnType<typeof factorsOf>,
    naming: (layer: string) => [down: string, up: string],
  ) => {
    const path = join(folder, name)
    await writeModelFile(
      path,
      factors.flatMap(({ layer, down, up }) => [bytes(down, naming(layer)[0]), bytes(up, naming(layer)[1])]),
    )
    return path
  }
  const kohya =
    (prefix: string) =>
    (layer: string): [string, string] => [
      `${prefix}${flat(layer)}.lora_down.weight`,
      `${prefix}${flat(layer)}.lora_up.weight`,
    ]
  const peft =
    (prefix: string) =>
    (layer: string): [string, string] => [`${prefix}${layer}.lora_A.weight`, `${prefix}${layer}.lora_B.weight`]
  const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 50)

  test.each([
    ['kohya', kohya('lora_te1_')],
    ['diffusers', peft('text_encoder.')],
  ])('CLIP, of %s', async (_, naming) => {
    const clipWeights = await goldenWeights('clip-tiny')
    const factors = factorsOf(readTensors(clipWeights), [
      'text_model.encoder.layers.0.self_attn.v_proj',
      'text_model.encoder.layers.1.mlp.fc1',
    ])
    await using changed = await ClipTextEncoder.load(
      await mergedEncoder(clipWeights, 'clip-merged.safetensors', factors),
      onTestBackend,
    )
    await using clip = await ClipTextEncoder.load(clipWeights, onTestBackend)
    const before = await clip.encode(tokens, { eos: 15 })
    await clip.adapt([{ path: await file('clip-lora.safetensors', factors, naming) }])
    const [after, expected] = [await clip.encode(tokens, { eos: 15 }), await changed.encode(tokens, { eos: 15 })]
    expect(relL2(expected.hidden, before.hidden)).toBeGreaterThan(0.02)
    expect(relL2(after.hidden, expected.hidden)).toBeLessThan(1e-3)
  })

  test.each([
    ['kohya', kohya('lora_te3_')],
    ['OneTrainer', kohya('lora_te2_')],
    ['diffusers', peft('text_encoder_2.')],
  ])('T5, of %s', async (_, naming) => {
    const t5Weights = await goldenWeights('t5-tiny')
    const factors = factorsOf(readTensors(t5Weights), [
      'encoder.block.0.layer.0.SelfAttention.v',
      'encoder.block.1.layer.1.DenseReluDense.wo',
    ])
    await using changed = await T5Encoder.load(
      await mergedEncoder(t5Weights, 't5-merged.safetensors', factors),
      onTestBackend,
    )
    await using t5 = await T5Encoder.load(t5Weights, onTestBackend)
    const before = await t5.encode(tokens)
    await t5.adapt([{ path: await file('t5-lora.safetensors', factors, naming) }])
    const [after, expected] = [await t5.encode(tokens), await changed.encode(tokens)]
    expect(relL2(expected, before)).toBeGreaterThan(0.02)
    expect(relL2(after, expected)).toBeLessThan(1e-3)
    await expect(t5.adapt([{ path: await loraFile('kohya') }])).rejects.toThrow(
      /belongs to a layer of this T5 text encoder/,
    )
  })

  test('in a pipeline: only the pictures that ask for it change', { timeout: 60_000 }, async () => {
    await using pipe = await loadTiny({ textEncoders: 'release' })
    const tensors = new Map(
      [...(await openModelFile(tinyModelFiles().clip)).tensors.values()].map(({ name, shape }) => [
        name,
        { shape, data: new Float32Array(0) },
      ]),
    )
    const factors = factorsOf(tensors, ['text_model.encoder.layers.0.mlp.fc2']).map((one) => ({
      ...one,
      up: { ...one.up, data: one.up.data.map((value) => 1e3 * (value as number)) },
    }))
    const path = await file('tiny-clip.safetensors', factors as never, kohya('lora_te1_'))
    const picture = (loras?: LoraOptions[]) => pipe.generate({ ...SMALL, ...(loras ? { loras } : {}) })
    const [without, withIt, again] = [await picture(), await picture([{ path }]), await picture()]
    expect(withIt.equals(without)).toBe(false)
    expect(again.equals(without)).toBe(true)
  })
})

describe('is refused', () => {
  const x = (name: string, ...shape: number[]) =>
    bytes({ shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) }, name)
  const layer = 'double_blocks.0.img_attn.proj'

  test.each<[string, string, RegExp, () => TensorSource[]]>([
    [
      'a file of which nothing belongs here',
      'FLUX_UNSUPPORTED',
      /none of its 1 tensors/,
      () => [x('down_blocks.0.attn.to_q.lora_A.weight', 4, 8)],
    ],
    [
      'a whole model',
      'FLUX_UNSUPPORTED',
      /none of its 2 tensors/,
      () => [x('double_blocks.0.img_attn.norm.query_norm.scale', 128), x('img_in.weight', hidden, 64)],
    ],
    ['half a layer', 'FLUX_BAD_FILE', /proj has a first matrix/, () => [x(`${layer}.lora_A.weight`, RANK, hidden)]],
    [
      'an alpha alone',
      'FLUX_BAD_FILE',
      /proj has alpha and not all that belongs to it/,
      () => [x(`${layer}.alpha`, 1)],
    ],
    [
      'another width',
      'FLUX_BAD_FILE',
      /takes 64 numbers, but double_blocks\.0\.img_attn\.proj\.weight/,
      () => [x(`${layer}.lora_A.weight`, RANK, 64), x(`${layer}.lora_B.weight`, hidden, RANK)],
    ],
    [
      'matrices that do not fit',
      'FLUX_BAD_FILE',
      /is needed/,
      () => [x(`${layer}.lora_A.weight`, RANK, hidden), x(`${layer}.lora_B.weight`, hidden, RANK + 1)],
    ],
    [
      'three dimensions',
      'FLUX_BAD_FILE',
      /two dimensions/,
      () => [x(`${layer}.lora_A.weight`, RANK, hidden, 1), x(`${layer}.lora_B.weight`, hidden, RANK)],
    ],
    [
      'an alpha of two numbers',
      'FLUX_BAD_FILE',
      /one number/,
      () => [
        x(`${layer}.lora_A.weight`, RANK, hidden),
        x(`${layer}.lora_B.weight`, hidden, RANK),
        x(`${layer}.alpha`, 2),
      ],
    ],
    ['half a LoKr', 'FLUX_BAD_FILE', /has lokr_w1 and not all that belongs to it/, () => [x(`${layer}.lokr_w1`, 2, 2)]],
    [
      'a LoKr of another size',
      'FLUX_BAD_FILE',
      /takes 64 numbers/,
      () => [x(`${layer}.lokr_w1`, 8, 8), x(`${layer}.lokr_w2`, hidden / 8, 8)],
    ],
    [
      'a LoHa of two sizes',
      'FLUX_BAD_FILE',
      /makes another matrix/,
      () => [
        x(`${layer}.hada_w1_a`, hidden, 2),
        x(`${layer}.hada_w1_b`, 2, hidden),
        x(`${layer}.hada_w2_a`, hidden, 2),
        x(`${layer}.hada_w2_b`, 2, 64),
      ],
    ],
    [
      'a bias of another size',
      'FLUX_BAD_FILE',
      /but \[\d+\] is needed/,
      () => [
        x(`${layer}.lora_A.weight`, 2, hidden),
        x(`${layer}.lora_B.weight`, hidden, 2),
        x(`${layer}.lora_B.bias`, 3),
      ],
    ],
    [
      'a wider input elsewhere',
      'FLUX_BAD_FILE',
      /takes 512 numbers, but txt_in/,
      () => [x('txt_in.lora_A.weight', RANK, 512), x('txt_in.lora_B.weight', hidden, RANK)],
    ],
    [
      'a norm of another size',
      'FLUX_BAD_FILE',
      /has shape \[3\]/,
      () => [
        x('double_blocks.0.img_attn.norm.query_norm.scale', 3),
        x(`${layer}.lora_A.weight`, 2, hidden),
        x(`${layer}.lora_B.weight`, hidden, 2),
      ],
    ],
    ...[
      'dora_scale',
      'lora_magnitude_vector',
      'lora_magnitude_vector.weight',
      'lora_magnitude_vector.default.weight',
      'magnitude',
    ].map((name): [string, string, RegExp, () => TensorSource[]] => [
      `a DoRA, by ${name}`,
      'FLUX_UNSUPPORTED',
      new RegExp(`this is a DoRA \\(.*\\.${name.replaceAll('.', '\\.')}\\).*Use a LoRA, or merge it`),
      () => [
        x(`${layer}.${name}`, hidden),
        x(`${layer}.lora_A.weight`, 2, hidden),
        x(`${layer}.lora_B.weight`, hidden, 2),
      ],
    ]),
  ])('%s: %s', async (_, code, message, sources) => {
    const path = join(folder, 'wrong.safetensors')
    await writeModelFile(path, sources())
    await expect(flux.adapt([{ path }])).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    })
  })

  test('a part of a split model', async () => {
    const path = join(folder, 'lora-00001-of-00001.safetensors')
    await writeModelFile(path, [x(`${layer}.lora_A.weight`, RANK, hidden), x(`${layer}.lora_B.weight`, hidden, RANK)])
    await expect(flux.adapt([{ path }])).rejects.toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringContaining('one file') as string,
    })
  })

  test('a wrong option', async () => {
    for (const wrong of [
      { path: '' },
      { path: 'x', scale: NaN },
      { path: 'x', scale: 1e9 },
      { path: 'x', weight: 1 },
      'x',
      null,
    ]) {
      await expect(flux.adapt([wrong as never])).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    }
    await expect(flux.adapt('x' as never)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await expect(flux.adapt([{ path: join(folder, 'none.safetensors') }])).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
    })
    await flux.adapt([])
    expect(await flux.predict(devCase('b'))).toEqual(plain)
  })

  test('while the network is at work, and after its end', async () => {
    const running = flux.predict(devCase('b'))
    await expect(flux.adapt([])).rejects.toMatchObject({ code: 'FLUX_BUSY' })
    await running
    const closed = await FluxTransformer.load(official, onTestBackend)
    await closed.close()
    await expect(closed.adapt([])).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
  })
})

test('in a pipeline: another picture, the same again without, and a warning for what does nothing', {
  timeout: 60_000,
}, async () => {
  await using pipe = await loadTiny()
  const path = join(folder, 'tiny.safetensors')
  const { hiddenSize } = pipe.config
  const layer = 'lora_unet_double_blocks_1_img_mlp_2'
  await writeModelFile(path, [
    bytes(matrix(RANK, 4 * hiddenSize, 1), `${layer}.lora_down.weight`),
    bytes(matrix(hiddenSize, RANK, 2), `${layer}.lora_up.weight`),
    bytes(matrix(RANK, 64, 3), 'lora_te1_text_model_encoder_layers_99_mlp_fc1.lora_down.weight'),
  ])
  const picture = async (loras?: LoraOptions[]) => {
    const events = await collect(pipe.stream({ ...SMALL, ...(loras ? { loras } : {}) }))
    const image = events.at(-1)!
    if (image.type !== 'image') throw new Error('the last event is the picture')
    return {
      bytes: image.image,
      parameters: image.parameters,
      warnings: events.filter(({ type }) => type === 'warning'),
    }
  }
  const [without, withIt, again, off] = [
    await picture(),
    await picture([{ path, scale: 2 }]),
    await picture([{ path, scale: 2 }]),
    await picture([{ path, scale: 0 }]),
  ]
  expect(without.warnings).toEqual([])
  expect(withIt.bytes.equals(without.bytes)).toBe(false)
  expect(again.bytes.equals(withIt.bytes)).toBe(true)
  expect(off.bytes.equals(without.bytes)).toBe(true)
  expect(withIt.warnings).toEqual([
    { type: 'warning', message: expect.stringMatching(/tensor lora_te1_.* belongs to no layer/) as string },
  ])
  expect(again.warnings).toEqual(withIt.warnings)
  expect(withIt.parameters).toContain('LoRA: tiny 2')
  expect((await picture()).bytes.equals(without.bytes)).toBe(true)
  await expect(pipe.generate({ ...SMALL, loras: [{ path: join(folder, 'none') }] })).rejects.toMatchObject({
    code: 'FLUX_NOT_FOUND',
  })
  const control = join(folder, 'tiny-control.safetensors')
  await writeModelFile(control, [
    bytes(matrix(RANK, 2 * pipe.config.inChannels, 1), 'img_in.lora_A.weight'),
    bytes(matrix(hiddenSize, RANK, 2), 'img_in.lora_B.weight'),
  ])
  const needs = expect.stringMatching(/needs a control picture.*reads 128 channels/) as string
  await expect(pipe.generate({ ...SMALL, loras: [{ path: control }] })).rejects.toMatchObject({
    code: 'FLUX_UNSUPPORTED',
    message: needs,
  })
})

test.skipIf(process.platform === 'win32')(
  'a LoRA with hundreds of alphas is read where few files may be open',
  async () => {
    const path = join(folder, 'many-alphas.safetensors')
    const zeros = (name: string, ...shape: number[]) =>
      bytes({ shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) }, name)
    const layers = Array.from({ length: 38 }, (_, i) =>
      ['to_q', 'to_k', 'to_v'].map((part) => `single_transformer_blocks.${i}.attn.${part}`),
    ).flat()
    await writeModelFile(
      path,
      layers.flatMap((layer) => [
        zeros(`${layer}.lora_A.weight`, 1, 3072),
        zeros(`${layer}.lora_B.weight`, 3072, 1),
        alphaTensor(`${layer}.alpha`),
      ]),
    )
    const child = fileURLToPath(new URL('./children/adapt.mjs', import.meta.url))
    const { stdout } = await promisify(execFile)('sh', [
      '-c',
      `ulimit -n 96; exec "$0" "$@"`,
      process.execPath,
      child,
      path,
    ])
    expect(JSON.parse(stdout)).toMatchObject({
      role: 'lora',
      architecture: 'LoRA of rank 1: layers 114 in the FLUX transformer',
      problems: [],
    })
  },
)
