import { FluxError } from '../errors.js'
import { affineNorm, linear, type LayoutTensor } from './layout.js'

/** The sizes of the layers that the text and vision encoders of CLIP and SigLIP have in common. */
export interface EncoderSizes {
  hiddenSize: number
  numHeads: number
  numLayers: number
  intermediateSize: number
}

type Part = 'layer_norm1' | 'self_attn' | 'layer_norm2' | 'mlp'

/** The order of the parts in files of CLIP and of SigLIP. */
export const CLIP_ORDER: readonly Part[] = ['self_attn', 'layer_norm1', 'mlp', 'layer_norm2']
export const SIGLIP_ORDER: readonly Part[] = ['layer_norm1', 'self_attn', 'layer_norm2', 'mlp']

/** The tensors of one layer: huggingface/transformers, `modeling_clip.py` and `modeling_siglip.py`. */
export function encoderLayer(
  name: string,
  { hiddenSize: hidden, intermediateSize }: EncoderSizes,
  order: readonly Part[],
): LayoutTensor[] {
  return order.flatMap((part) => {
    if (part === 'self_attn')
      return ['k_proj', 'v_proj', 'q_proj', 'out_proj'].flatMap((projection) =>
        linear(`${name}.self_attn.${projection}`, hidden, hidden),
      )
    if (part === 'mlp')
      return [
        ...linear(`${name}.mlp.fc1`, intermediateSize, hidden),
        ...linear(`${name}.mlp.fc2`, hidden, intermediateSize),
      ]
    return affineNorm(`${name}.${part}`, hidden)
  })
}

/** @throws {FluxError} FLUX_BAD_OPTION for heads that do not divide the hidden size */
export function requireWholeHeads({ numHeads, hiddenSize }: EncoderSizes): void {
  if (hiddenSize % numHeads === 0) return
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `config.numHeads is ${numHeads}; it has to divide the hidden size, ${hiddenSize}`,
  )
}
