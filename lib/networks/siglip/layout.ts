import { completeConfig } from '../config-rules.js'
import { encoderLayer, requireWholeHeads, SIGLIP_ORDER } from '../encoder-layers.js'
import { affineNorm, range, type LayoutTensor, type TensorShape } from '../layout.js'
import {
  patchCount,
  patchEmbedding,
  positionEmbedding,
  requireGrid,
  VISION_RULES,
  visionSizes,
  type VisionConfig,
} from '../vision.js'

/**
 * The configuration of SigLIP's vision tower. The names are those of `SiglipVisionConfig` in huggingface/transformers.
 */
export interface SiglipConfig extends VisionConfig {
  /** @default 16 for the hidden sizes 1152 and 1536, else hiddenSize / 64 */
  numHeads: number
  /** @default the patches' pixels; 384 for 27 x 27 patches of 14 */
  imageSize: number
}

/** Published towers whose heads do not have 64 numbers: so400m and SigLIP 2's giant. */
const HEADS: Readonly<Record<number, number>> = { 1152: 16, 1536: 16 }
const HEAD_DIM = 64

/** All tensors of the tower without its pooling head, in the order of the official files. */
export function siglipLayout(config: SiglipConfig): LayoutTensor[] {
  const { hiddenSize, numLayers } = config
  return [
    patchEmbedding(config),
    { name: 'vision_model.embeddings.patch_embedding.bias', shape: [hiddenSize], role: 'bias' },
    positionEmbedding(config, patchCount(config)),
    ...range(numLayers).flatMap((i) => encoderLayer(`vision_model.encoder.layers.${i}`, config, SIGLIP_ORDER)),
    ...affineNorm('vision_model.post_layernorm', hiddenSize),
  ]
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @param overrides values that shapes cannot show: `numHeads`, a divisor of the hidden size; `imageSize`
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function siglipConfig(tensors: Map<string, TensorShape>, overrides?: Partial<SiglipConfig>): SiglipConfig {
  const { grid, ...sizes } = visionSizes(tensors, 0)
  const numHeads = HEADS[sizes.hiddenSize] ?? sizes.hiddenSize / HEAD_DIM
  const config = completeConfig<SiglipConfig>(
    {
      ...sizes,
      ...(Number.isInteger(numHeads) ? { numHeads } : {}),
      ...(grid === 27 && sizes.patchSize === 14 ? { imageSize: 384 } : {}),
    },
    VISION_RULES,
    overrides,
  )
  requireWholeHeads(config)
  requireGrid(config, grid)
  return config
}
