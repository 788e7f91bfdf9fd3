import type { FamilyPresets } from '../family.js'

/** These repositories need no account. The repositories of the models' authors do. */
export const FLUX_PRESETS: FamilyPresets = {
  models: {
    'flux.1-schnell': 'hf:city96/FLUX.1-schnell-gguf',
    'flux.1-dev': 'hf:city96/FLUX.1-dev-gguf',
    'flux.1-krea-dev': 'hf:QuantStack/FLUX.1-Krea-dev-GGUF',
    'flux.1-kontext-dev': 'hf:QuantStack/FLUX.1-Kontext-dev-GGUF',
    'flux.1-fill-dev': 'hf:YarvixPA/FLUX.1-Fill-dev-GGUF',
  },
  companions: {
    /** this file contains its tokenizer */
    t5: 'hf:city96/t5-v1_1-xxl-encoder-gguf:Q8_0',
    clip: 'hf:comfyanonymous/flux_text_encoders:clip_l.safetensors',
    vae: 'hf:Comfy-Org/Lumina_Image_2.0_Repackaged:split_files/vae/ae.safetensors',
  },
  tokenizers: { t5: 'hf:google/t5-v1_1-xxl', clip: 'hf:openai/clip-vit-large-patch14' },
}
