import type { FluxTransformer } from '../../nn.js'
import type { FluxAttachment, OpenAttachment } from '../../networks/flux/attachments.js'
import type { NetworkFile } from '../../networks/network-file.js'
import { appendRedux } from '../../networks/redux/append.js'
import { flow } from '../../sampling/prediction.js'
import type { Predict } from '../../sampling/samplers.js'
import { applyPromptWeights, parsePromptWeights } from '../../tokenizers/prompt-weights.js'
import type { Conditioning } from '../conditioning.js'
import type { Encoders, ImageRequest } from '../family.js'
import { actsIn, type ImageInputs } from '../image-inputs.js'
import type { Flux1Components } from './components.js'
import { concatenated, joinChannels, type FluxImages } from './image-tokens.js'
import { FLUX_LATENT } from './latent.js'
import { imageIds } from './tokens.js'

/** `txt`: T5's states [maxSequenceLength, contextInDim]; `vec`: CLIP's pooled output [vecInDim] */
type FluxConditioning = Conditioning<'txt' | 'vec'>

/** pixels along each side of a token */
const SIDE = FLUX_LATENT.sizeMultiple

/**
 * Cuts off or pads each prompt to `maxSequenceLength` for T5. Padding is not masked, as in the official program.
 *
 * Weights act on T5's states, not on CLIP's pooled output, and of CLIP's chunks the first is used. Source:
 * comfyanonymous/ComfyUI, `comfy/text_encoders/flux.py`.
 */
export async function encodePrompts(
  requests: readonly ImageRequest[],
  { tokenizers, run }: Encoders<Flux1Components>,
): Promise<FluxConditioning[]> {
  const prompts = requests.map(({ prompt, promptWeights, maxSequenceLength }) => {
    const parts = promptWeights ? parsePromptWeights(prompt) : [{ text: prompt, weight: 1 }]
    const [clip, ...unread] = tokenizers.clip.encodeChunks(parts)
    return { t5: tokenizers.t5.encodeParts(parts, maxSequenceLength), clip, unread, maxSequenceLength }
  })
  const txts = await run('t5', prompts, async (t5, { t5: { ids, weights }, maxSequenceLength }, options) => {
    const states = await t5.encode(ids, options)
    if (weights.every((weight) => weight === 1)) return states
    const empty = await t5.encode(tokenizers.t5.encode('', maxSequenceLength).ids, options)
    return applyPromptWeights(states, empty, weights)
  })
  const vecs = await run('clip', prompts, async (clip, { clip: { ids, eos } }, options) => {
    return (await clip.encode(ids, { eos, ...options })).pooled
  })
  return prompts.map(({ t5, unread }, i) => ({
    tensors: { txt: txts[i]!, vec: vecs[i]! },
    truncated: [...(t5.truncated ? ['t5'] : []), ...(unread.length > 0 ? ['clip'] : [])],
  }))
}

/** The ControlNets and IP-Adapters of a request, in the order of `FluxImages`. */
export function attachmentsOf({ controlNets = [], ipAdapters = [] }: ImageInputs): FluxAttachment[] {
  return [
    ...controlNets.map(({ path }) => ({ kind: 'controlnet' as const, path })),
    ...ipAdapters.map(({ path }) => ({ kind: 'ip-adapter' as const, path })),
  ]
}

export async function attachNetworks(
  flux: FluxTransformer,
  attached: readonly NetworkFile<object>[],
  signal: AbortSignal,
): Promise<void> {
  await flux.attachOpen(attached as readonly OpenAttachment[], { signal })
}

export function bindTransformer(
  flux: FluxTransformer,
  conditioning: Conditioning,
  { width, height, guidance, sigmas }: ImageRequest,
  signal: AbortSignal,
): Predict {
  const { txt, vec } = (conditioning as FluxConditioning).tensors
  const {
    channels,
    references,
    referenceIds,
    controls = [],
    imagePrompts,
    redux,
  } = (conditioning.images ?? {}) as FluxImages
  const ids = imageIds(height / SIDE, width / SIDE)
  const count = ids.length / 3
  const steps = sigmas.length - 1
  const given = {
    imgIds: referenceIds ? concatenated([ids, referenceIds]) : ids,
    vec,
    signal,
    ...(redux ? appendRedux(txt, redux, flux.config.contextInDim) : { txt }),
    ...(imagePrompts ? { imagePrompts } : {}),
    ...(guidance === undefined ? {} : { guidance }),
  }
  return async (state, sigma) => {
    // a level belongs to the step that starts at it or above it
    const step = sigmas.slice(1).filter((level) => level >= sigma).length
    const acting = controls
      .filter((control) => actsIn(step, steps, control))
      .map(({ start, end, ...control }) => control)
    const wide = channels ? joinChannels(state, channels, count) : state
    const img = references ? concatenated([wide, references]) : wide
    const output = await flux.predict({ img, timestep: flow.timestep(sigma), controls: acting, ...given })
    return references ? output.subarray(0, state.length) : output // the references' own outputs are not used
  }
}
