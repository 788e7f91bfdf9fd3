import type { NameTable } from './table.js'

/** CLIP text encoders in the names of huggingface/transformers, with and without `text_model.`, alone or inside a full CLIP. */
export const CLIP_NAMES: NameTable = {
  prefixes: ['text_encoders.clip_l.transformer.', 'text_encoders.clip_l.', 'cond_stage_model.transformer.', ''],
  renames: [[/^(embeddings|encoder\.layers|final_layer_norm)\./, 'text_model.$1.']],
  aliases: {},
  ignored: [/^text_model\.embeddings\.position_ids$/, /^logit_scale$/, /^(text|visual)_projection(\.weight)?$/, /^vision_model\./],
  marks: ['text_model.embeddings.token_embedding.weight', 'text_model.encoder.layers.0.self_attn.q_proj.weight'],
}
