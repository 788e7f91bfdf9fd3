import { completeConfig, type ConfigRules } from '../config-rules.js'
import { CLIP_ORDER, encoderLayer, requireWholeHeads } from '../encoder-layers.js'
import { affineNorm, linear, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'
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
 * The configuration of CLIP's vision tower. The names are those of `CLIPVisionConfig` in huggingface/transformers.
 */
export interface ClipVisionConfig extends VisionConfig {
  /** @default hiddenSize / 64 */
  numHeads: number
  /** numbers of the embedding */
  projectionDim: number
}

const HEAD_DIM = 64
const CLASS_TOKENS = 1

export const CLIP_VISION_RULES: ConfigRules<ClipVisionConfig> = {
  ...VISION_RULES,
  projectionDim: { kind: 'integer', min: 1, max: 8192 },
}

/** All tensors of the tower, in the order of the official files. */
export function clipVisionLayout(config: ClipVisionConfig): LayoutTensor[] {
  const { hiddenSize, numLayers, projectionDim } = config
  return [
    { name: 'vision_model.embeddings.class_embedding', shape: [hiddenSize], role: 'bias' },
    patchEmbedding(config),
    positionEmbedding(config, patchCount(config) + CLASS_TOKENS),
    ...affineNorm('vision_model.pre_layrnorm', hiddenSize), // the official spelling
    ...range(numLayers).flatMap((i) => encoderLayer(`vision_model.encoder.layers.${i}`, config, CLIP_ORDER)),
    ...affineNorm('vision_model.post_layernorm', hiddenSize),
    ...linear('visual_projection', projectionDim, hiddenSize, false),
  ]
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @param overrides values that shapes cannot show: `numHeads`, a divisor of the hidden size; `imageSize`
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function clipVisionConfig(
  tensors: Map<string, TensorShape>,
  overrides?: Partial<ClipVisionConfig>,
): ClipVisionConfig {
  const { grid, ...sizes } = visionSizes(tensors, CLASS_TOKENS)
  const numHeads = sizes.hiddenSize / HEAD_DIM
  const config = completeConfig<ClipVisionConfig>(
    {
      ...sizes,
      ...(Number.isInteger(numHeads) ? { numHeads } : {}),
      projectionDim: shapeOf(tensors, 'visual_projection.weight', 2)[0]!,
    },
    CLIP_VISION_RULES,
    overrides,
  )
  requireWholeHeads(config)
  requireGrid(config, grid)
  return config
}
