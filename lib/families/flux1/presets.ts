import type { FamilyPresets } from '../family.js'

const SIGLIP = 'siglip-so400m-patch14-384'
const CLIP_VISION = 'clip-vit-large-patch14'

/** These repositories need no account. The repositories of the models' authors do. */
export const FLUX_PRESETS: FamilyPresets = {
  models: {
    'flux.1-schnell': 'hf:city96/FLUX.1-schnell-gguf',
    'flux.1-dev': 'hf:city96/FLUX.1-dev-gguf',
    'flux.1-krea-dev': 'hf:QuantStack/FLUX.1-Krea-dev-GGUF',
    'flux.1-kontext-dev': 'hf:QuantStack/FLUX.1-Kontext-dev-GGUF',
    'flux.1-fill-dev': 'hf:YarvixPA/FLUX.1-Fill-dev-GGUF',
    'flux.1-canny-dev': 'hf:SporkySporkness/FLUX.1-Canny-dev-GGUF',
    'flux.1-depth-dev': 'hf:SporkySporkness/FLUX.1-Depth-dev-GGUF',
  },
  companions: {
    /** this file contains its tokenizer */
    t5: 'hf:city96/t5-v1_1-xxl-encoder-gguf:Q8_0',
    clip: 'hf:comfyanonymous/flux_text_encoders:clip_l.safetensors',
    vae: 'hf:Comfy-Org/Lumina_Image_2.0_Repackaged:split_files/vae/ae.safetensors',
  },
  tokenizers: { t5: 'hf:google/t5-v1_1-xxl', clip: 'hf:openai/clip-vit-large-patch14' },
  files: {
    /** at a commit whose file has the hash of the official one, because this repository changes */
    'flux.1-canny-dev-lora':
      'hf:camenduru/FLUX.1-dev@a30b09029ee78f8e90fe7397948d5513f973a18d:flux1-canny-dev-lora.safetensors',
    'flux.1-depth-dev-lora': 'hf:Comfy-Org/flux1-dev:split_files/loras/flux1-depth-dev-lora.safetensors',
    'flux.1-redux-dev': 'hf:Runware/FLUX.1-Redux-dev:flux1-redux-dev.safetensors',
    [SIGLIP]: 'hf:Comfy-Org/sigclip_vision_384:sigclip_vision_patch14_384.safetensors',
    'flux.1-instantx-union': 'hf:InstantX/FLUX.1-dev-Controlnet-Union:diffusion_pytorch_model.safetensors',
    'flux.1-shakker-union-pro': 'hf:Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro:diffusion_pytorch_model.safetensors',
    'flux.1-shakker-union-pro-2.0':
      'hf:Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0:diffusion_pytorch_model.safetensors',
    'flux.1-shakker-depth': 'hf:Shakker-Labs/FLUX.1-dev-ControlNet-Depth:diffusion_pytorch_model.safetensors',
    'flux.1-xlabs-canny-v3': 'hf:XLabs-AI/flux-controlnet-canny-v3:flux-canny-controlnet-v3.safetensors',
    'flux.1-xlabs-depth-v3': 'hf:XLabs-AI/flux-controlnet-depth-v3:flux-depth-controlnet-v3.safetensors',
    'flux.1-xlabs-hed-v3': 'hf:XLabs-AI/flux-controlnet-hed-v3:flux-hed-controlnet-v3.safetensors',
    'flux.1-mistoline': 'hf:TheMistoAI/MistoLine_Flux.dev:mistoline_flux.dev_v1.safetensors',
    'flux.1-alimama-inpainting-beta':
      'hf:alimama-creative/FLUX.1-dev-Controlnet-Inpainting-Beta:diffusion_pytorch_model.safetensors',
    'flux.1-jasperai-upscaler': 'hf:jasperai/Flux.1-dev-Controlnet-Upscaler:diffusion_pytorch_model.safetensors',
    'flux.1-xlabs-ip-adapter': 'hf:XLabs-AI/flux-ip-adapter:ip_adapter.safetensors',
    'flux.1-xlabs-ip-adapter-v2': 'hf:XLabs-AI/flux-ip-adapter-v2:ip_adapter.safetensors',
    [CLIP_VISION]: 'hf:openai/clip-vit-large-patch14:model.safetensors',
  },
  needs: {
    'flux.1-redux-dev': { siglip: SIGLIP },
    'flux.1-xlabs-ip-adapter': { clipVision: CLIP_VISION },
    'flux.1-xlabs-ip-adapter-v2': { clipVision: CLIP_VISION },
  },
}
