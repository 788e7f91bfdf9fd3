// The golden weights as other programs name and cut them, made from what those programs' converters do (huggingface/diffusers,
// `scripts/convert_flux_to_diffusers.py` and `loaders/single_file_utils.py`; openai/CLIP, `clip/model.py`): the opposite direction of the tables of names in lib/networks.
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { readTensors, type Tensor } from './safetensors.js'

type Tensors = Map<string, Tensor>
/** the tensor by its new name, or several that it is cut into */
type Renamed = [name: string, tensor: Tensor][]

/** `count` numbers of rows each, from the first on. */
function cut({ shape, data }: Tensor, ...counts: number[]): Tensor[] {
  const width = data.length / shape[0]!
  let row = 0
  return counts.map((count) => ({
    shape: [count, ...shape.slice(1)],
    data: data.slice(row * width, (row += count) * width),
  }))
}

function thirds(tensor: Tensor): Tensor[] {
  const rows = tensor.shape[0]! / 3
  return cut(tensor, rows, rows, rows)
}

const named = (names: string[], tensors: Tensor[], prefix: string, suffix: string): Renamed =>
  names.map((name, i) => [`${prefix}${name}.${suffix}`, tensors[i]!])

const FLUX_OUTSIDE: Record<string, string> = {
  img_in: 'x_embedder',
  txt_in: 'context_embedder',
  'final_layer.linear': 'proj_out',
  'time_in.in_layer': 'time_text_embed.timestep_embedder.linear_1',
  'time_in.out_layer': 'time_text_embed.timestep_embedder.linear_2',
  'guidance_in.in_layer': 'time_text_embed.guidance_embedder.linear_1',
  'guidance_in.out_layer': 'time_text_embed.guidance_embedder.linear_2',
  'vector_in.in_layer': 'time_text_embed.text_embedder.linear_1',
  'vector_in.out_layer': 'time_text_embed.text_embedder.linear_2',
}
const FLUX_DOUBLE: Record<string, string> = {
  'img_mod.lin': 'norm1.linear',
  'txt_mod.lin': 'norm1_context.linear',
  'img_attn.proj': 'attn.to_out.0',
  'txt_attn.proj': 'attn.to_add_out',
  'img_mlp.0': 'ff.net.0.proj',
  'img_mlp.2': 'ff.net.2',
  'txt_mlp.0': 'ff_context.net.0.proj',
  'txt_mlp.2': 'ff_context.net.2',
  'img_attn.norm.query_norm': 'attn.norm_q',
  'img_attn.norm.key_norm': 'attn.norm_k',
  'txt_attn.norm.query_norm': 'attn.norm_added_q',
  'txt_attn.norm.key_norm': 'attn.norm_added_k',
}
const FLUX_SINGLE: Record<string, string> = {
  'modulation.lin': 'norm.linear',
  linear2: 'proj_out',
  'norm.query_norm': 'attn.norm_q',
  'norm.key_norm': 'attn.norm_k',
}

export function diffusersFlux(name: string, tensor: Tensor): Renamed {
  const [, layer, suffix] = /^(.*)\.(weight|bias|scale)$/.exec(name) as unknown as [string, string, string]
  const end = suffix === 'scale' ? 'weight' : suffix
  const [, kind, block, inside] = /^(double|single)_blocks\.(\d+)\.(.*)$/.exec(layer) ?? []
  if (kind === 'double') {
    const prefix = `transformer_blocks.${block}.`
    if (inside === 'img_attn.qkv') return named(['attn.to_q', 'attn.to_k', 'attn.to_v'], thirds(tensor), prefix, end)
    if (inside === 'txt_attn.qkv')
      return named(['attn.add_q_proj', 'attn.add_k_proj', 'attn.add_v_proj'], thirds(tensor), prefix, end)
    return [[`${prefix}${FLUX_DOUBLE[inside!]}.${end}`, tensor]]
  }
  if (kind === 'single') {
    const prefix = `single_transformer_blocks.${block}.`
    if (inside !== 'linear1') return [[`${prefix}${FLUX_SINGLE[inside!]}.${end}`, tensor]]
    const hidden = tensor.shape[0]! / 7
    return named(
      ['attn.to_q', 'attn.to_k', 'attn.to_v', 'proj_mlp'],
      cut(tensor, hidden, hidden, hidden, 4 * hidden),
      prefix,
      end,
    )
  }
  if (layer !== 'final_layer.adaLN_modulation.1') return [[`${FLUX_OUTSIDE[layer]}.${end}`, tensor]]
  const half = tensor.data.length / 2
  const data = new Float32Array([...tensor.data.subarray(half), ...tensor.data.subarray(0, half)])
  return [[`norm_out.linear.${end}`, { ...tensor, data }]]
}

export function diffusersAutoencoder(name: string, tensor: Tensor): Renamed {
  const renamed = name
    .replace('norm_out.', 'conv_norm_out.')
    .replace('nin_shortcut.', 'conv_shortcut.')
    .replace(/\.up\.(\d)\.block\.(\d)/, (_, level, i) => `.up_blocks.${3 - Number(level)}.resnets.${i}`)
    .replace(/\.up\.(\d)\.upsample\./, (_, level) => `.up_blocks.${3 - Number(level)}.upsamplers.0.`)
    .replace(/\.down\.(\d)\.block\.(\d)/, '.down_blocks.$1.resnets.$2')
    .replace(/\.down\.(\d)\.downsample\./, '.down_blocks.$1.downsamplers.0.')
    .replace(/\.mid\.block_(\d)/, (_, i) => `.mid_block.resnets.${Number(i) - 1}`)
    .replace('.mid.attn_1.norm.', '.mid_block.attentions.0.group_norm.')
    .replace(/\.mid\.attn_1\.([qkv])\./, '.mid_block.attentions.0.to_$1.')
    .replace('.mid.attn_1.proj_out.', '.mid_block.attentions.0.to_out.0.')
  const linear = /attentions\.0\.to_/.test(renamed) && tensor.shape.length === 4
  return [[renamed, linear ? { ...tensor, shape: tensor.shape.slice(0, 2) } : tensor]]
}

/** Needs all tensors, because query, key and value become one. */
export function openClip(tensors: Tensors): Tensors {
  const result: Tensors = new Map()
  for (const [name, tensor] of tensors) {
    const joint = /^text_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)$/.exec(name)
    if (joint) {
      const parts = ['q', 'k', 'v'].map((part) => tensors.get(name.replace('q_proj', `${part}_proj`))!)
      const data = new Float32Array(parts.flatMap((part) => [...part.data]))
      result.set(`transformer.resblocks.${joint[1]}.attn.in_proj_${joint[2]}`, {
        shape: [3 * tensor.shape[0]!, ...tensor.shape.slice(1)],
        data,
      })
    } else if (!/\.[kv]_proj\./.test(name)) {
      const renamed = name
        .replace('text_model.embeddings.token_embedding.', 'token_embedding.')
        .replace('text_model.embeddings.position_embedding.weight', 'positional_embedding')
        .replace('text_model.final_layer_norm.', 'ln_final.')
        .replace(/^text_model\.encoder\.layers\.(\d+)\./, 'transformer.resblocks.$1.')
        .replace('.self_attn.out_proj.', '.attn.out_proj.')
        .replace(/\.layer_norm([12])\./, '.ln_$1.')
        .replace('.mlp.fc1.', '.mlp.c_fc.')
        .replace('.mlp.fc2.', '.mlp.c_proj.')
      result.set(renamed, tensor)
    }
  }
  return result
}

/** The weights of a file renamed one by one, and written as F32 to `out`. */
export async function rewrite(
  path: string,
  out: string,
  rename: (name: string, tensor: Tensor) => Renamed,
  keep?: (name: string) => boolean,
): Promise<string> {
  return write(out, new Map([...readTensors(path)].flatMap(([name, tensor]) => rename(name, tensor))), keep)
}

export async function write(
  out: string,
  tensors: Tensors,
  keep: (name: string) => boolean = () => true,
): Promise<string> {
  const sources = [...tensors]
    .filter(([name]) => keep(name))
    .map(([name, { shape, data }]) => ({
      name,
      shape,
      type: 'F32' as const,
      data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    }))
  await writeModelFile(out, sources)
  return out
}
