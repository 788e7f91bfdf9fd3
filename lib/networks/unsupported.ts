const LORA =
  /\.lora_(A|B|up|down)\b|_lora[12]?\.(down|up)\.|\.(lokr|loha|hada)_|\.(diff|diff_b|set_weight|w_norm|b_norm)$|^(lora_(unet|transformer|te\d?)|lycoris)_/

/**
 * Files that are recognised but not supported: a name that only they have, and a description. They are checked before
 * the networks' own tables, because some share names with them. If `unless` is found as well, the file is something
 * else.
 */
export const FOREIGN_NAMES: readonly (readonly [mark: RegExp, what: string, unless?: RegExp])[] = [
  [LORA, 'a LoRA or a similar addition to a model, not a network of its own'],
  [/^(control_model\.|controlnet_(cond_embedding|down_blocks)\.)/, 'a ControlNet for Stable Diffusion 1, 2 or XL'],
  [/^pos_embed_input\.proj\.weight$/, 'a ControlNet for Stable Diffusion 3'],
  [
    /(^|\.)controlnet_(x_embedder|blocks|mode_embedder)|^controlnet_/,
    'a ControlNet, but not for FLUX.1',
    /^(double_blocks\.\d+\.img_mod|transformer_blocks\.\d+\.norm1_context)\./,
  ],
  [/(^|\.)distilled_guidance_layer\./, 'a Chroma transformer'],
  [/(^|\.)double_stream_modulation_img\./, 'a FLUX.2 transformer'],
  [/(^|\.)txt_in\.individual_token_refiner\./, 'a HunyuanVideo transformer'],
  [/(^|\.)joint_blocks\.0\./, 'a Stable Diffusion 3 transformer'],
  [/(^|\.)joint_transformer_blocks\.0\./, 'an AuraFlow transformer in the names of diffusers'],
  [
    /(^|\.)transformer_blocks\.0\.(attn1?\.to_q|norm1\.linear)\./,
    'a transformer in the names of diffusers',
    /(^|\.)single_transformer_blocks\.0\.|^controlnet_(x_embedder|blocks)\b/,
  ],
  [/(^|\.)(input_blocks|output_blocks)\.0\.0\.|^down_blocks\.0\.attentions\./, 'a Stable Diffusion U-Net'],
  [/(^|\.)(post_)?quant_conv\.weight$/, "a Stable Diffusion autoencoder, not FLUX's"],
  [
    /^(params(_ema)?\.)?layers\.0\.residual_group\./,
    'a network that enlarges images, but of the structure of SwinIR or HAT',
  ],
  [/^(blk\.0\.attn_q\.weight|model\.layers\.0\.self_attn\.)/, 'a language model'],
  [/^[tv]\.blk\.0\./, 'a CLIP in the names of llama.cpp'],
]
