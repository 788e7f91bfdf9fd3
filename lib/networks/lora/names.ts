/**
 * The role of a tensor in its layer. The product of `up` and `down`, with `up_bias` added to it, is scaled by
 * alpha / rank. In LoHa and LoKr, `a` is the second factor, like `up`. `diff` and `diff_b` are differences of the
 * layer's weight and bias. `set` replaces a norm's scale.
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

/**
 * The suffixes of tensor names for each role. The part before the suffix is the layer's name. The first match is used.
 */
export const LORA_SUFFIXES: readonly (readonly [suffix: RegExp, role: LoraRole])[] = [
  // PEFT, with and without an adapter's name
  [/\.lora_A(\.\w+)?\.weight$/, 'down'],
  [/\.lora_B(\.\w+)?\.weight$/, 'up'],
  [/\.lora_B(\.\w+)?\.bias$/, 'up_bias'],
  // XLabs, where `_lora` is part of the layer's name
  [/(?<=\.processor\.\w+_lora[12]?)\.down\.weight$/, 'down'],
  [/(?<=\.processor\.\w+_lora[12]?)\.up\.weight$/, 'up'],
  // kohya, OneTrainer and ComfyUI; older versions of diffusers
  [/([._]lora[._]|\.lora_linear_layer\.)down\.weight$/, 'down'],
  [/([._]lora[._]|\.lora_linear_layer\.)up\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
  // ComfyUI; LyCORIS uses w_norm and b_norm for norms
  [/(\.scale|\.weight)?\.(diff|w_norm)$/, 'diff'],
  [/\.(diff_b|b_norm)$/, 'diff_b'],
  [/(\.scale|\.weight)?\.set_weight$/, 'set'],
  ...LORA_ROLES.filter((role) => /^(hada|lokr)/.test(role)).map((role) => [new RegExp(`\\.${role}$`), role] as const),
]

/** The suffix of a norm's scale that replaces the model's, in the official LoRAs for Canny and Depth and in PEFT's. */
export const WHOLE_NORM = /\.(scale|weight)$/

/**
 * Tensors whose information is also in the shapes of other tensors: in ComfyUI's files, the size of a layer that a LoRA
 * widens.
 */
export const LORA_REMARKS = /\.reshape_weight$/

/** Only DoRA files have these: LyCORIS, kohya and OneTrainer; PEFT and diffusers; ai-toolkit. */
export const DORA_MARKS = /\.(dora_scale|lora_magnitude_vector|magnitude)(\.|$)/
