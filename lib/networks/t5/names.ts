import type { LoraNames } from '../definition.js'
import type { NameTable } from '../name-table.js'
import type { T5Config } from './layout.js'

const ATTENTION = 'encoder.block.$1.layer.0'
const FEED_FORWARD = 'encoder.block.$1.layer.1'

/** The names in llama.cpp's GGUF files, which other tools expect there. This is the inverse of the renames below. */
export function llamaT5Name(name: string): string {
  const [, block, rest] = /^encoder\.block\.(\d+)\.layer\.(.*)$/.exec(name) ?? []
  return rest === undefined ? LLAMA_OUTSIDE[name]! : `enc.blk.${block}.${LLAMA_INSIDE[rest]!}`
}

const LLAMA_OUTSIDE: Record<string, string> = {
  'shared.weight': 'token_embd.weight',
  'encoder.final_layer_norm.weight': 'enc.output_norm.weight',
}
const LLAMA_INSIDE: Record<string, string> = {
  ...Object.fromEntries(['q', 'k', 'v', 'o'].map((part) => [`0.SelfAttention.${part}.weight`, `attn_${part}.weight`])),
  '0.SelfAttention.relative_attention_bias.weight': 'attn_rel_b.weight',
  '0.layer_norm.weight': 'attn_norm.weight',
  '1.DenseReluDense.wi_0.weight': 'ffn_gate.weight',
  '1.DenseReluDense.wi_1.weight': 'ffn_up.weight',
  '1.DenseReluDense.wo.weight': 'ffn_down.weight',
  '1.layer_norm.weight': 'ffn_norm.weight',
}

/**
 * T5 encoders with the names of huggingface/transformers or of llama.cpp's GGUF files (`gguf-py/gguf/constants.py`).
 */
export const T5_NAMES: NameTable = {
  prefixes: ['text_encoders.t5xxl.transformer.', 'text_encoders.t5xxl.', ''],
  renames: [
    [/^token_embd\.weight$/, 'shared.weight'],
    [/^enc\.blk\.(\d+)\.attn_([qkvo])\.weight$/, `${ATTENTION}.SelfAttention.$2.weight`],
    [/^enc\.blk\.(\d+)\.attn_rel_b\.weight$/, `${ATTENTION}.SelfAttention.relative_attention_bias.weight`],
    [/^enc\.blk\.(\d+)\.attn_norm\.weight$/, `${ATTENTION}.layer_norm.weight`],
    [/^enc\.blk\.(\d+)\.ffn_gate\.weight$/, `${FEED_FORWARD}.DenseReluDense.wi_0.weight`],
    [/^enc\.blk\.(\d+)\.ffn_up\.weight$/, `${FEED_FORWARD}.DenseReluDense.wi_1.weight`],
    [/^enc\.blk\.(\d+)\.ffn_down\.weight$/, `${FEED_FORWARD}.DenseReluDense.wo.weight`],
    [/^enc\.blk\.(\d+)\.ffn_norm\.weight$/, `${FEED_FORWARD}.layer_norm.weight`],
    [/^enc\.output_norm\.weight$/, 'encoder.final_layer_norm.weight'],
  ],
  aliases: { 'encoder.embed_tokens.weight': 'shared.weight' },
  ignored: [/^decoder\./, /^dec\./, /^lm_head\.weight$/, /^output\.weight$/, /^spiece_model$/],
  marks: ['encoder.block.0.layer.0.SelfAttention.q.weight', 'encoder.final_layer_norm.weight'],
}

/** The names used by kohya and OneTrainer, diffusers, and ComfyUI. */
export const T5_LORA_NAMES: LoraNames<T5Config> = {
  prefix: /^(lora_te[23]_|(lora_te[23]|text_encoder_[23]|text_encoders(\.t5xxl)?\.transformer|text_encoders\.t5xxl)\.)/,
  component: 'text_encoder_2',
}
