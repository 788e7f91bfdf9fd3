import type { NameTable } from './table.js'

/** FLUX transformers in the official names of black-forest-labs/flux, alone or inside a checkpoint of ComfyUI's kind. */
export const FLUX_NAMES: NameTable = {
  prefixes: ['model.diffusion_model.', 'diffusion_model.', ''],
  renames: [],
  aliases: {},
  ignored: [],
  marks: ['img_in.weight', 'double_blocks.0.img_attn.qkv.weight', 'single_blocks.0.linear1.weight'],
}
