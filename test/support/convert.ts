import { extname } from 'node:path'
import { encodeValues, type Quantize } from '../../lib/tools/synth/encode-values.js'
import type { LayoutTensor, TensorRole } from '../../lib/networks/layout.js'
import { openModelFile } from '../../lib/formats/open.js'
import { identify, networkOf } from '../../lib/networks/network-file.js'
import { storedType } from '../../lib/tools/quantisation-rules.js'
import { networkDefinition } from '../../lib/networks/registry.js'
import type { TensorType } from '../../lib/formats/tensor-types.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { dequantize, type BlockType } from './dequantize.js'
import { readTensors } from './safetensors.js'

export interface ConvertOptions {
  /** for the whole model by the rules of converters, or tensor by tensor */
  type: TensorType | ((name: string, role: TensorRole) => TensorType)
  /** new names, of a tensor's canonical one */
  naming?: (name: string) => string
  /** before every name */
  prefix?: string
  quantize?: Quantize
  /** a second file to write: F32 with the values that remain after rounding to `type`, which a file of that type has to agree with */
  rounded?: string
}

/** Rewrites an F32 safetensors file in canonical names with other types and names; `out` ends with .gguf or .safetensors. Returns `out`. */
export async function convertWeights(path: string, out: string, options: ConvertOptions): Promise<string> {
  const { type, naming = (name) => name, prefix = '', quantize, rounded } = options
  const file = await openModelFile(path)
  const { kind } = identify(file)!
  const definition = networkDefinition(kind!)
  const layout = new Map(definition.layout(networkOf(kind!, file).config).map((tensor) => [tensor.name, tensor]))
  const typeOf = (tensor: LayoutTensor) =>
    typeof type === 'function' ? type(tensor.name, tensor.role) : storedType(definition, tensor, type)
  const tensors: TensorSource[] = []
  const remaining: TensorSource[] = []
  for (const [name, { shape, data }] of readTensors(path)) {
    const stored = typeOf(layout.get(name)!)
    const bytes = await encodeValues(data as Float32Array, stored, shape.at(-1)!, quantize)
    const tensor = { name: prefix + naming(name), shape }
    tensors.push({ ...tensor, type: stored, data: bytes })
    if (!rounded) continue
    remaining.push({ ...tensor, type: 'F32', data: new Uint8Array(dequantize(stored as BlockType, bytes).buffer) })
  }
  const metadata = (file: string): Record<string, string> =>
    extname(file) === '.gguf' ? { 'general.architecture': kind! } : {}
  await writeModelFile(out, tensors, metadata(out))
  if (rounded) await writeModelFile(rounded, remaining, metadata(rounded))
  return out
}

/** llama.cpp's names of T5's tensors (`gguf-py/gguf/constants.py`), by the end of the canonical name. */
const LLAMA_T5_NAMES: [canonical: string, llama: string][] = [
  ['shared.weight', 'token_embd.weight'],
  ['encoder.final_layer_norm.weight', 'enc.output_norm.weight'],
  ['layer.0.SelfAttention.q.weight', 'attn_q.weight'],
  ['layer.0.SelfAttention.k.weight', 'attn_k.weight'],
  ['layer.0.SelfAttention.v.weight', 'attn_v.weight'],
  ['layer.0.SelfAttention.o.weight', 'attn_o.weight'],
  ['layer.0.SelfAttention.relative_attention_bias.weight', 'attn_rel_b.weight'],
  ['layer.0.layer_norm.weight', 'attn_norm.weight'],
  ['layer.1.DenseReluDense.wi_0.weight', 'ffn_gate.weight'],
  ['layer.1.DenseReluDense.wi_1.weight', 'ffn_up.weight'],
  ['layer.1.DenseReluDense.wo.weight', 'ffn_down.weight'],
  ['layer.1.layer_norm.weight', 'ffn_norm.weight'],
]

/** A `naming` for {@link convertWeights}: T5 as llama.cpp's converter names it. */
export function llamaT5Name(name: string): string {
  const [, block, rest = name] = /^encoder\.block\.(\d+)\.(.*)$/.exec(name) ?? []
  const llama = LLAMA_T5_NAMES.find(([canonical]) => canonical === rest)![1]
  return block === undefined ? llama : `enc.blk.${block}.${llama}`
}
