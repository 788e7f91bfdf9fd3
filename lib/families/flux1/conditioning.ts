import type { FluxTransformer } from '../../nn.js'
import { flow } from '../../sampling/prediction.js'
import type { Predict } from '../../sampling/samplers.js'
import { applyPromptWeights, parsePromptWeights } from '../../tokenizers/prompt-weights.js'
import type { Conditioning } from '../conditioning.js'
import type { Encoders, ImageRequest } from '../family.js'
import type { Flux1Components } from './components.js'
import { FLUX_LATENT } from './latent.js'
import { imageIds } from './tokens.js'

/** `txt`: T5's states [maxSequenceLength, contextInDim]; `vec`: CLIP's pooled output [vecInDim] */
type FluxConditioning = Conditioning<'txt' | 'vec'>

/**
 * Cuts off or pads the prompt to `maxSequenceLength` for T5. Padding is not masked, as in the official program.
 *
 * Weights act on T5's states, not on CLIP's pooled output, and of CLIP's chunks the first is used. Source:
 * comfyanonymous/ComfyUI, `comfy/text_encoders/flux.py`.
 */
export async function encodePrompt(
  { prompt, promptWeights, maxSequenceLength }: ImageRequest,
  { tokenizers, run }: Encoders<Flux1Components>,
): Promise<FluxConditioning> {
  const parts = promptWeights ? parsePromptWeights(prompt) : [{ text: prompt, weight: 1 }]
  const t5Tokens = tokenizers.t5.encodeParts(parts, maxSequenceLength)
  const [clipTokens, ...unread] = tokenizers.clip.encodeChunks(parts)
  const txt = await run('t5', async (t5, options) => {
    const states = await t5.encode(t5Tokens.ids, options)
    if (t5Tokens.weights.every((weight) => weight === 1)) return states
    const empty = await t5.encode(tokenizers.t5.encode('', maxSequenceLength).ids, options)
    return applyPromptWeights(states, empty, t5Tokens.weights)
  })
  const vec = await run('clip', async (clip, options) => {
    return (await clip.encode(clipTokens.ids, { eos: clipTokens.eos, ...options })).pooled
  })
  const truncated = [...(t5Tokens.truncated ? ['t5'] : []), ...(unread.length > 0 ? ['clip'] : [])]
  return { tensors: { txt, vec }, truncated }
}

export function bindTransformer(
  flux: FluxTransformer,
  conditioning: Conditioning,
  { width, height, guidance }: ImageRequest,
  signal: AbortSignal,
): Predict {
  const { txt, vec } = (conditioning as FluxConditioning).tensors
  const side = FLUX_LATENT.sizeMultiple
  const given = {
    imgIds: imageIds(height / side, width / side),
    txt,
    vec,
    signal,
    ...(guidance === undefined ? {} : { guidance }),
  }
  return (img, sigma) => flux.predict({ img, timestep: flow.timestep(sigma), ...given })
}
