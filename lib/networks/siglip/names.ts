import type { NameTable } from '../name-table.js'

/** SigLIP with the names of huggingface/transformers: its vision tower alone, or the whole model. */
export const SIGLIP_NAMES: NameTable = {
  prefixes: [''],
  renames: [],
  aliases: {},
  ignored: [
    /^vision_model\.head\./,
    /^vision_model\.embeddings\.position_ids$/,
    /^text_model\./,
    /^logit_(scale|bias)$/,
  ],
  // CLIP's has no bias
  marks: ['vision_model.embeddings.patch_embedding.bias'],
}
