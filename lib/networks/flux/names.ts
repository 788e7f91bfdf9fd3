import type { LoraNames } from '../definition.js'
import type { NameTable, Rename } from '../name-table.js'
import type { FluxConfig } from './layout.js'

/**
 * The names of diffusers (`src/diffusers/models/transformers/transformer_flux.py`). Its converter to them is
 * `scripts/convert_flux_to_diffusers.py`.
 */
const DIFFUSERS: readonly Rename[] = [
  [/^x_embedder\./, 'img_in.'],
  [/^context_embedder\./, 'txt_in.'],
  [/^time_text_embed\.timestep_embedder\.linear_1\./, 'time_in.in_layer.'],
  [/^time_text_embed\.timestep_embedder\.linear_2\./, 'time_in.out_layer.'],
  [/^time_text_embed\.guidance_embedder\.linear_1\./, 'guidance_in.in_layer.'],
  [/^time_text_embed\.guidance_embedder\.linear_2\./, 'guidance_in.out_layer.'],
  [/^time_text_embed\.text_embedder\.linear_1\./, 'vector_in.in_layer.'],
  [/^time_text_embed\.text_embedder\.linear_2\./, 'vector_in.out_layer.'],

  [/^transformer_blocks\.(\d+)\.norm1\.linear\./, 'double_blocks.$1.img_mod.lin.'],
  [/^transformer_blocks\.(\d+)\.norm1_context\.linear\./, 'double_blocks.$1.txt_mod.lin.'],
  ...['to_q', 'to_k', 'to_v'].map(
    (name, part): Rename => [block(name), 'double_blocks.$1.img_attn.qkv.', { part, of: 3 }],
  ),
  ...['add_q_proj', 'add_k_proj', 'add_v_proj'].map(
    (name, part): Rename => [block(name), 'double_blocks.$1.txt_attn.qkv.', { part, of: 3 }],
  ),
  [/^transformer_blocks\.(\d+)\.attn\.norm_q\.weight$/, 'double_blocks.$1.img_attn.norm.query_norm.scale'],
  [/^transformer_blocks\.(\d+)\.attn\.norm_k\.weight$/, 'double_blocks.$1.img_attn.norm.key_norm.scale'],
  [/^transformer_blocks\.(\d+)\.attn\.norm_added_q\.weight$/, 'double_blocks.$1.txt_attn.norm.query_norm.scale'],
  [/^transformer_blocks\.(\d+)\.attn\.norm_added_k\.weight$/, 'double_blocks.$1.txt_attn.norm.key_norm.scale'],
  [/^transformer_blocks\.(\d+)\.attn\.to_out\.0\./, 'double_blocks.$1.img_attn.proj.'],
  [/^transformer_blocks\.(\d+)\.attn\.to_add_out\./, 'double_blocks.$1.txt_attn.proj.'],
  [/^transformer_blocks\.(\d+)\.ff\.net\.0\.proj\./, 'double_blocks.$1.img_mlp.0.'],
  [/^transformer_blocks\.(\d+)\.ff\.net\.2\./, 'double_blocks.$1.img_mlp.2.'],
  [/^transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj\./, 'double_blocks.$1.txt_mlp.0.'],
  [/^transformer_blocks\.(\d+)\.ff_context\.net\.2\./, 'double_blocks.$1.txt_mlp.2.'],

  [/^single_transformer_blocks\.(\d+)\.norm\.linear\./, 'single_blocks.$1.modulation.lin.'],
  ...['attn.to_q', 'attn.to_k', 'attn.to_v', 'proj_mlp'].map(
    (name, part): Rename => [
      new RegExp(`^single_transformer_blocks\\.(\\d+)\\.${name.replace('.', '\\.')}\\.`),
      'single_blocks.$1.linear1.',
      { part, of: 4 },
    ],
  ),
  [/^single_transformer_blocks\.(\d+)\.proj_out\./, 'single_blocks.$1.linear2.'],
  [/^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight$/, 'single_blocks.$1.norm.query_norm.scale'],
  [/^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight$/, 'single_blocks.$1.norm.key_norm.scale'],

  [/^proj_out\./, 'final_layer.linear.'],
  // diffusers stores the scale before the shift
  [/^norm_out\.linear\./, 'final_layer.adaLN_modulation.1.', 'halves swapped'],
]

function block(name: string): RegExp {
  return new RegExp(`^transformer_blocks\\.(\\d+)\\.attn\\.${name}\\.`)
}

/** The names of the norms' scales in transformers files since 2026. */
const NORM_WEIGHTS: Rename = [/^((?:double|single)_blocks\.\d+\..*\b(?:query|key)_norm)\.weight$/, '$1.scale']

/** ControlNets for FLUX.1 have the transformer's names and these. */
const CONTROLNET_MARK = /^(pos_embed_input|controlnet_x_embedder|controlnet_blocks\.\d+|controlnet_mode_embedder)\./

/**
 * FLUX transformers with the official names of black-forest-labs/flux or the names of diffusers, alone or inside a
 * ComfyUI checkpoint.
 */
export const FLUX_NAMES: NameTable = {
  prefixes: ['model.diffusion_model.', 'diffusion_model.', 'transformer.', ''],
  renames: [...DIFFUSERS, NORM_WEIGHTS],
  aliases: {},
  ignored: [],
  marks: ['img_in.weight', 'double_blocks.0.img_mod.lin.weight', 'single_blocks.0.linear2.weight'],
  excludes: CONTROLNET_MARK,
}

export const FLUX_LORA_NAMES: LoraNames<FluxConfig> = {
  // kohya; OneTrainer; SimpleTuner; PEFT, ComfyUI and diffusers, also nested; the official names have no prefix
  prefix:
    /^(lora_unet_|lora_transformer_|lycoris_|((base_model\.model|model\.diffusion_model|diffusion_model|transformer|unet)\.)*)/,
  component: 'transformer',
  renames: [
    // XLabs' processors (x-flux, UNO, USO): 1 for the image, 2 for the text; in single blocks they only change query,
    // key and value
    [/^double_blocks\.(\d+)\.processor\.(qkv|proj)_lora1\./, 'double_blocks.$1.img_attn.$2.'],
    [/^double_blocks\.(\d+)\.processor\.(qkv|proj)_lora2\./, 'double_blocks.$1.txt_attn.$2.'],
    [/^single_blocks\.(\d+)\.processor\.qkv_lora\./, 'single_blocks.$1.linear1.', { leading: 3 }],
    [/^single_blocks\.(\d+)\.processor\.proj_lora\./, 'single_blocks.$1.linear2.'],
    // ComfyUI's names for them
    [/^single_blocks\.(\d+)\.linear1_qkv\./, 'single_blocks.$1.linear1.', { leading: 3 }],
  ],
  // query, key and value have as many rows as the model is wide; the MLP has the remaining rows
  partRows: ({ hiddenSize }) => hiddenSize,
  // the official LoRAs for Canny and Depth read the latents of a control image after those of the image itself
  widens: 'img_in.weight',
}
