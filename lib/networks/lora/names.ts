import type { Change, Rename } from '../name-table.js'

/** What may stand before a layer's name in a LoRA's file, by network. */
export const LORA_PREFIXES = {
  // kohya; OneTrainer; SimpleTuner; PEFT, ComfyUI and diffusers, also one inside the other; the official names have none
  flux: /^(lora_unet_|lora_transformer_|lycoris_|((base_model\.model|model\.diffusion_model|diffusion_model|transformer|unet)\.)*)/,
  // kohya and OneTrainer; diffusers; ComfyUI
  clip: /^(lora_te1?_|(lora_te1?|text_encoder|text_encoders\.clip_l(\.transformer)?)\.)/,
  t5: /^(lora_te[23]_|(lora_te[23]|text_encoder_[23]|text_encoders(\.t5xxl)?\.transformer|text_encoders\.t5xxl)\.)/,
} as const

/** Names of FLUX's layers that only LoRAs use, in the form of a network's table of names. */
export const FLUX_LORA_RENAMES: readonly (
  | Rename
  | readonly [from: RegExp, to: string, how: Change | 'query, key and value']
)[] = [
  // XLabs' processors (x-flux, UNO, USO): 1 for the image, 2 for the text; those of single blocks add to query, key and value alone
  [/^double_blocks\.(\d+)\.processor\.(qkv|proj)_lora1\./, 'double_blocks.$1.img_attn.$2.'],
  [/^double_blocks\.(\d+)\.processor\.(qkv|proj)_lora2\./, 'double_blocks.$1.txt_attn.$2.'],
  [/^single_blocks\.(\d+)\.processor\.qkv_lora\./, 'single_blocks.$1.linear1.', 'query, key and value'],
  [/^single_blocks\.(\d+)\.processor\.proj_lora\./, 'single_blocks.$1.linear2.'],
  // what ComfyUI makes of them
  [/^single_blocks\.(\d+)\.linear1_qkv\./, 'single_blocks.$1.linear1.', 'query, key and value'],
]

/**
 * What a tensor is to its layer. The product of `up` and `down`, with `up_bias` added to it, is scaled by alpha / rank; LoHa's and LoKr's `a` comes
 * second, as `up` does. `diff` and `diff_b` are differences of the layer's weight and bias, `set` takes the place of a norm's scale.
 */
export const LORA_ROLES = [
  'down',
  'up',
  'up_bias',
  'alpha',
  'diff',
  'diff_b',
  'set',
  'hada_w1_a',
  'hada_w1_b',
  'hada_w2_a',
  'hada_w2_b',
  'lokr_w1',
  'lokr_w1_a',
  'lokr_w1_b',
  'lokr_w2',
  'lokr_w2_a',
  'lokr_w2_b',
] as const
export type LoraRole = (typeof LORA_ROLES)[number]

/** How a tensor's name ends in each role; what is before that is the layer's name. The first that fits is taken. */
export const LORA_SUFFIXES: readonly (readonly [suffix: RegExp, role: LoraRole])[] = [
  // PEFT, with and without an adapter's name
  [/\.lora_A(\.\w+)?\.weight$/, 'down'],
  [/\.lora_B(\.\w+)?\.weight$/, 'up'],
  [/\.lora_B(\.\w+)?\.bias$/, 'up_bias'],
  // XLabs, where `_lora` belongs to the layer's name
  [/(?<=\.processor\.\w+_lora[12]?)\.down\.weight$/, 'down'],
  [/(?<=\.processor\.\w+_lora[12]?)\.up\.weight$/, 'up'],
  // kohya, OneTrainer and ComfyUI; older versions of diffusers
  [/([._]lora[._]|\.lora_linear_layer\.)down\.weight$/, 'down'],
  [/([._]lora[._]|\.lora_linear_layer\.)up\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
  // ComfyUI; LyCORIS calls those of norms w_norm and b_norm
  [/(\.scale|\.weight)?\.(diff|w_norm)$/, 'diff'],
  [/\.(diff_b|b_norm)$/, 'diff_b'],
  [/(\.scale|\.weight)?\.set_weight$/, 'set'],
  ...LORA_ROLES.filter((role) => /^(hada|lokr)/.test(role)).map((role) => [new RegExp(`\\.${role}$`), role] as const),
]

/** How the scale of a norm ends that takes the place of the model's, in the official LoRAs for Canny and Depth and in those of PEFT. */
export const WHOLE_NORM = /\.(scale|weight)$/

/** Tensors that say what their neighbours' shapes say as well: of ComfyUI's, the size of a layer that a LoRA widens. */
export const LORA_REMARKS = /\.reshape_weight$/

/** Only DoRA has these: LyCORIS, kohya and OneTrainer; PEFT and diffusers; ai-toolkit. */
export const DORA_MARKS = /\.(dora_scale|lora_magnitude_vector|magnitude)(\.|$)/
