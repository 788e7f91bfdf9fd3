import type { FluxTransformer } from '../../nn.js'
import { flow } from '../../sampling/prediction.js'
import type { Predict } from '../../sampling/samplers.js'
import type { Conditioning } from '../conditioning.js'
import type { Encoders, ImageRequest } from '../family.js'
import type { Flux1Components } from './components.js'
import { FLUX_LATENT } from './latent.js'
import { imageIds } from './tokens.js'

/** `txt`: T5's states [maxSequenceLength, contextInDim]; `vec`: CLIP's pooled output [vecInDim] */
type FluxConditioning = Conditioning<'txt' | 'vec'>

/** Cuts off or pads the prompt to `maxSequenceLength` for T5. Padding is not masked, as in the official program. */
export async function encodePrompt(
  { prompt, maxSequenceLength }: ImageRequest,
  { tokenizers, run }: Encoders<Flux1Components>,
): Promise<FluxConditioning> {
  const t5Tokens = tokenizers.t5.encode(prompt, maxSequenceLength)
  const clipTokens = tokenizers.clip.encode(prompt)
  const txt = await run('t5', (t5, options) => t5.encode(t5Tokens.ids, options))
  const vec = await run('clip', async (clip, options) => {
    return (await clip.encode(clipTokens.ids, { eos: clipTokens.eos, ...options })).pooled
  })
  const truncated = [...(t5Tokens.truncated ? ['t5'] : []), ...(clipTokens.truncated ? ['clip'] : [])]
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
