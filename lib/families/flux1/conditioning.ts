import type { FluxTransformer } from '../../nn.js'
import { flow } from '../../sampling/prediction.js'
import type { Predict } from '../../sampling/samplers.js'
import { applyPromptWeights, parsePromptWeights } from '../../tokenizers/prompt-weights.js'
import type { Conditioning } from '../conditioning.js'
import type { Encoders, ImageRequest } from '../family.js'
import type { EncodeImage, ImageInputs } from '../image-inputs.js'
import type { Flux1Components } from './components.js'
import { concatenated, imageTokens, joinChannels, referenceIds, type ImageTokens } from './image-tokens.js'
import { FLUX_LATENT } from './latent.js'
import { imageIds } from './tokens.js'

/** `txt`: T5's states [maxSequenceLength, contextInDim]; `vec`: CLIP's pooled output [vecInDim] */
type FluxConditioning = Conditioning<'txt' | 'vec'>

/** pixels along each side of a token */
const SIDE = FLUX_LATENT.sizeMultiple

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

/** Encodes the images that the transformer reads next to the prompt. */
export async function encodeImages(
  inputs: ImageInputs,
  { width, height }: Pick<ImageRequest, 'width' | 'height'>,
  encode: EncodeImage,
): Promise<Record<string, Float32Array>> {
  const tokens = await imageTokens(inputs, encode)
  if (!tokens.references) return { ...tokens }
  const inTokens = (size: { width: number; height: number }) => ({
    rows: size.height / SIDE,
    columns: size.width / SIDE,
  })
  const ids = referenceIds(inputs.references!.map(inTokens), inTokens({ width, height }), inputs.placement ?? 'offset')
  return { ...tokens, referenceIds: ids }
}

export function bindTransformer(
  flux: FluxTransformer,
  conditioning: Conditioning,
  { width, height, guidance }: ImageRequest,
  signal: AbortSignal,
): Predict {
  const { txt, vec, channels, references, referenceIds } = conditioning.tensors as FluxConditioning['tensors'] &
    ImageTokens
  const ids = imageIds(height / SIDE, width / SIDE)
  const count = ids.length / 3
  const given = {
    imgIds: referenceIds ? concatenated([ids, referenceIds]) : ids,
    txt,
    vec,
    signal,
    ...(guidance === undefined ? {} : { guidance }),
  }
  return async (state, sigma) => {
    const wide = channels ? joinChannels(state, channels, count) : state
    const img = references ? concatenated([wide, references]) : wide
    const output = await flux.predict({ img, timestep: flow.timestep(sigma), ...given })
    return references ? output.subarray(0, state.length) : output // the references' own outputs are not used
  }
}
