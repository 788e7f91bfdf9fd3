import type { LoraNames } from '../definition.js'
import type { NameTable, Rename } from '../name-table.js'
import type { ClipConfig } from './layout.js'

/** The names in openai/CLIP and OpenCLIP, where query, key and value are one matrix. */
const OPEN_CLIP: readonly Rename[] = [
  [/^token_embedding\./, 'text_model.embeddings.token_embedding.'],
  [/^positional_embedding$/, 'text_model.embeddings.position_embedding.weight'],
  [/^transformer\.resblocks\.(\d+)\.ln_([12])\./, 'text_model.encoder.layers.$1.layer_norm$2.'],
  [
    /^transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$/,
    'text_model.encoder.layers.$1.self_attn.*_proj.$2',
    { split: ['q', 'k', 'v'] },
  ],
  [/^transformer\.resblocks\.(\d+)\.attn\.out_proj\./, 'text_model.encoder.layers.$1.self_attn.out_proj.'],
  [/^transformer\.resblocks\.(\d+)\.mlp\.c_fc\./, 'text_model.encoder.layers.$1.mlp.fc1.'],
  [/^transformer\.resblocks\.(\d+)\.mlp\.c_proj\./, 'text_model.encoder.layers.$1.mlp.fc2.'],
  [/^ln_final\./, 'text_model.final_layer_norm.'],
]

/**
 * CLIP text encoders with the names of huggingface/transformers, with and without `text_model.`, or of OpenCLIP, alone
 * or inside a full CLIP.
 */
export const CLIP_NAMES: NameTable = {
  prefixes: [
    'text_encoders.clip_l.transformer.',
    'text_encoders.clip_l.',
    'cond_stage_model.transformer.',
    'cond_stage_model.model.',
    '',
  ],
  renames: [[/^(embeddings|encoder\.layers|final_layer_norm)\./, 'text_model.$1.'], ...OPEN_CLIP],
  aliases: {},
  ignored: [
    /^text_model\.embeddings\.position_ids$/,
    /^logit_scale$/,
    /^(text|visual)_projection(\.weight)?$/,
    /^vision_model\./,
    /^visual\./,
  ],
  marks: ['text_model.embeddings.token_embedding.weight', 'text_model.encoder.layers.0.layer_norm1.weight'],
}

/** The names used by kohya and OneTrainer, diffusers, and ComfyUI. */
export const CLIP_LORA_NAMES: LoraNames<ClipConfig> = {
  prefix: /^(lora_te1?_|(lora_te1?|text_encoder|text_encoders\.clip_l(\.transformer)?)\.)/,
  component: 'text_encoder',
}
