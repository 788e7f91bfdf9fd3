import type { NameTable } from '../name-table.js'
import { FLUX_NAMES } from '../flux/names.js'

/**
 * ControlNets for FLUX.1 with the names of diffusers (`src/diffusers/models/controlnets/controlnet_flux.py`: InstantX,
 * Shakker, alimama), the official ones (XLabs-AI/x-flux `src/flux/controlnet.py`), or those of ComfyUI
 * (`comfy/ldm/flux/controlnet.py`) and TheMistoAI/MistoControlNet-Flux-dev (`modules/misto_controlnet.py`).
 */
export const CONTROLNET_NAMES: NameTable = {
  prefixes: [''],
  renames: [
    [/^controlnet_x_embedder\./, 'pos_embed_input.'],
    [/^single_controlnet_blocks\./, 'controlnet_single_blocks.'],
    ...FLUX_NAMES.renames,
  ],
  aliases: {},
  ignored: [],
  marks: ['pos_embed_input.weight', 'controlnet_blocks.0.weight', 'controlnet_blocks.0.linear.weight'],
}
