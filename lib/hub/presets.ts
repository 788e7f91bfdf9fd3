/**
 * Models by name: where their transformers lie as GGUF files, and what goes with all of them. The repositories ask for no account; those of
 * the models' makers do.
 */
export const PRESETS = {
  'flux.1-schnell': 'hf:city96/FLUX.1-schnell-gguf',
  'flux.1-dev': 'hf:city96/FLUX.1-dev-gguf',
  'flux.1-krea-dev': 'hf:QuantStack/FLUX.1-Krea-dev-GGUF',
  'flux.1-kontext-dev': 'hf:QuantStack/FLUX.1-Kontext-dev-GGUF',
  'flux.1-fill-dev': 'hf:YarvixPA/FLUX.1-Fill-dev-GGUF',
} as const satisfies Record<string, string>

/** Where a repository has several quantisations and none is named, the first of these that it has. */
export const USUAL_TYPES = ['Q4_K_S', 'Q4_K_M', 'Q4_0']

export const COMPANIONS = {
  /** carries its tokenizer */
  t5: 'hf:city96/t5-v1_1-xxl-encoder-gguf:Q8_0',
  clip: 'hf:comfyanonymous/flux_text_encoders:clip_l.safetensors',
  vae: 'hf:Comfy-Org/Lumina_Image_2.0_Repackaged:split_files/vae/ae.safetensors',
  /** for T5 encoders that carry none */
  t5Tokenizer: 'hf:google/t5-v1_1-xxl',
  clipTokenizer: 'hf:openai/clip-vit-large-patch14',
}

/** The reference that a preset stands for: `flux.1-dev` or `flux.1-dev:Q8_0`; undefined for what is none. */
export function presetReference(text: string): string | undefined {
  const [name = '', which, ...more] = text.split(':')
  if (!Object.hasOwn(PRESETS, name.toLowerCase()) || more.length > 0) return undefined
  return PRESETS[name.toLowerCase() as keyof typeof PRESETS] + (which === undefined ? '' : `:${which}`)
}
