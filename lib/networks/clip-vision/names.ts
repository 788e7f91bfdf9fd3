import type { NameTable } from '../name-table.js'

/** CLIP with the names of huggingface/transformers: its vision tower alone, or the whole model. */
export const CLIP_VISION_NAMES: NameTable = {
  prefixes: [''],
  renames: [],
  aliases: {},
  ignored: [/^vision_model\.embeddings\.position_ids$/, /^text_model\./, /^text_projection\.weight$/, /^logit_scale$/],
  marks: ['vision_model.embeddings.class_embedding'],
}
