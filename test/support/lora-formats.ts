// One set of factors for eleven layers of the transformer, in the names of every program.
import type { TensorSource } from '../../lib/formats/file-header.js'
import {
  changedWeights,
  flat,
  hidden,
  loraFile,
  numbers,
  official,
  product,
  RANK,
  scalar,
  tensorSource,
  weights,
  type Deltas,
} from './lora.js'
import type { Tensor } from './safetensors.js'

export const ALPHA = 6

export interface Factors {
  /** in the names of diffusers */
  layer: string
  /** the official matrix and its row that the addition begins at */
  weight: string
  first: number
  down: Tensor
  up: Tensor
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
export const factors: Factors[] = LAYERS.map(([layer, weight, part], i) => {
  const [rows, input] = weights.get(weight)!.shape as [number, number]
  const count = part < 0 ? rows : part === 3 ? 4 * hidden : hidden
  return {
    layer,
    weight,
    first: Math.max(0, part) * hidden,
    down: numbers([RANK, input], 100 + i),
    up: numbers([count, RANK], 200 + i),
  }
})

/** The transformer's weights with scale * alpha / rank * up down added to them. */
export function merged(path: string, scale: number, alpha = ALPHA, chosen = factors): Promise<string> {
  const deltas: Deltas = new Map()
  for (const { weight, first, down, up } of chosen)
    deltas.set(weight, [...(deltas.get(weight) ?? []), { first, delta: product(up, down) }])
  return changedWeights(official, path, deltas, (scale * alpha) / RANK)
}

/** Official names have query, key and value in one matrix: the factors below one another, and in blocks. */
export function joint(all: Factors[]): Factors[] {
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
    const matrices = { down: { shape: [rank, input], data: down }, up: { shape: [rows, rank], data: up } }
    return { layer: '', weight, first: 0, ...matrices }
  })
}

const officialName = ({ weight }: Factors) => weight.replace(/\.weight$/, '')

/** Both matrices and alpha of each layer; `suffixes` are those of the matrices. */
const layerwise = (prefix: (one: Factors) => string, suffixes: [down: string, up: string]) =>
  factors.flatMap((one) => [
    tensorSource(`${prefix(one)}.${suffixes[0]}.weight`, one.down),
    tensorSource(`${prefix(one)}.${suffixes[1]}.weight`, one.up),
    tensorSource(`${prefix(one)}.alpha`, { shape: [1], data: Float32Array.of(ALPHA) }),
  ])

/** The same by official names. Joining raises the rank, and alpha with it. */
const jointly = (prefix: (one: Factors) => string, suffixes: [down: string, up: string]) =>
  joint(factors).flatMap((one) => [
    tensorSource(`${prefix(one)}.${suffixes[0]}.weight`, one.down),
    tensorSource(`${prefix(one)}.${suffixes[1]}.weight`, one.up),
    scalar(`${prefix(one)}.alpha`, (ALPHA / RANK) * one.down.shape[0]!),
  ])

export const FORMATS: Record<string, () => TensorSource[]> = {
  'diffusers and PEFT': () => layerwise(({ layer }) => `transformer.${layer}`, ['lora_A', 'lora_B']),
  'PEFT with an adapter of its own name': () =>
    layerwise(({ layer }) => `base_model.model.${layer}`, ['lora_A.default', 'lora_B.default']),
  kohya: () => jointly((one) => `lora_unet_${flat(officialName(one))}`, ['lora_down', 'lora_up']),
  OneTrainer: () => layerwise(({ layer }) => `lora_transformer_${flat(layer)}`, ['lora_down', 'lora_up']),
  'official names': () => jointly(officialName, ['lora_A', 'lora_B']),
  ComfyUI: () => jointly((one) => `diffusion_model.${officialName(one)}`, ['lora_down', 'lora_up']),
}

/** A file in the names of one program, with whatever else. */
export const formatFile = (path: string, format: keyof typeof FORMATS, more: TensorSource[] = []): Promise<string> =>
  loraFile(path, [...FORMATS[format]!(), ...more])
