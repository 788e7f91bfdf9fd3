import { completeConfig, type ConfigRules } from '../config-rules.js'
import { CLIP_ORDER, encoderLayer, requireWholeHeads } from '../encoder-layers.js'
import { affineNorm, countBlocks, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/** The CLIP text encoder's configuration. The names are those of `CLIPTextConfig` in huggingface/transformers. */
export interface ClipConfig {
  hiddenSize: number
  /** @default hiddenSize / 64 */
  numHeads: number
  numLayers: number
  intermediateSize: number
  vocabSize: number
  maxPositions: number
}

const HEAD_DIM = 64

export const CLIP_RULES: ConfigRules<ClipConfig> = {
  hiddenSize: { kind: 'integer', min: 64, max: 8192 },
  numHeads: { kind: 'integer', min: 1, max: 256, free: true },
  numLayers: { kind: 'integer', min: 1, max: 256 },
  intermediateSize: { kind: 'integer', min: 8, max: 65536 },
  vocabSize: { kind: 'integer', min: 4, max: 1_000_000 },
  maxPositions: { kind: 'integer', min: 2, max: 4096 },
}

/** All tensors of the text encoder, in the order of the official files. */
export function clipLayout(config: ClipConfig): LayoutTensor[] {
  const { hiddenSize: hidden } = config
  const embeddings = 'text_model.embeddings'
  return [
    { name: `${embeddings}.token_embedding.weight`, shape: [config.vocabSize, hidden], role: 'embedding' },
    { name: `${embeddings}.position_embedding.weight`, shape: [config.maxPositions, hidden], role: 'embedding' },
    ...range(config.numLayers).flatMap((i) => encoderLayer(`text_model.encoder.layers.${i}`, config, CLIP_ORDER)),
    ...affineNorm('text_model.final_layer_norm', hidden),
  ]
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @param overrides a value that shapes cannot show: `numHeads`, a divisor of the hidden size
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function clipConfig(tensors: Map<string, TensorShape>, overrides?: Partial<ClipConfig>): ClipConfig {
  const [vocabSize, hiddenSize] = shapeOf(tensors, 'text_model.embeddings.token_embedding.weight', 2) as [
    number,
    number,
  ]
  const config = completeConfig<ClipConfig>(
    {
      hiddenSize,
      ...(hiddenSize % HEAD_DIM === 0 ? { numHeads: hiddenSize / HEAD_DIM } : {}),
      numLayers: countBlocks(tensors.keys(), 'text_model.encoder.layers.', 'self_attn.q_proj.weight'),
      intermediateSize: shapeOf(tensors, 'text_model.encoder.layers.0.mlp.fc1.weight', 2)[0]!,
      vocabSize,
      maxPositions: shapeOf(tensors, 'text_model.embeddings.position_embedding.weight', 2)[0]!,
    },
    CLIP_RULES,
    overrides,
  )
  requireWholeHeads(config)
  return config
}
