import { completeConfig, type ConfigRules } from '../config-rules.js'
import { countBlocks, linear, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/**
 * The T5 encoder's configuration. The names are those of `T5Config` in huggingface/transformers. The feed-forward part
 * is the gated one (v1.1).
 */
export interface T5Config {
  dModel: number
  /** width of a head; the number of heads times this width may differ from `dModel` */
  dKv: number
  numHeads: number
  dFf: number
  numLayers: number
  vocabSize: number
  /** the number of buckets of relative positions */
  numBuckets: number
  /** distance from which all positions share the last bucket. @default 128 */
  maxDistance: number
}

export const T5_RULES: ConfigRules<T5Config> = {
  dModel: { kind: 'integer', min: 8, max: 16384 },
  dKv: { kind: 'integer', min: 1, max: 1024 },
  numHeads: { kind: 'integer', min: 1, max: 512 },
  dFf: { kind: 'integer', min: 8, max: 131072 },
  numLayers: { kind: 'integer', min: 1, max: 256 },
  vocabSize: { kind: 'integer', min: 4, max: 1_000_000 },
  numBuckets: { kind: 'integer', min: 4, max: 1024, multipleOf: 2 },
  maxDistance: { kind: 'integer', min: 2, max: 1_000_000, free: true },
}

const BIAS_TABLE = 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight'

/** All tensors of the encoder, in the order of the official files. Only block 0 has the table of position biases. */
export function t5Layout(config: T5Config): LayoutTensor[] {
  const { dModel } = config
  return [
    { name: 'shared.weight', shape: [config.vocabSize, dModel], role: 'embedding' },
    ...range(config.numLayers).flatMap((i) => block(i, config)),
    { name: 'encoder.final_layer_norm.weight', shape: [dModel], role: 'norm' },
  ]
}

function block(i: number, config: T5Config): LayoutTensor[] {
  const { dModel, dFf } = config
  const inner = config.numHeads * config.dKv
  const attention = `encoder.block.${i}.layer.0`
  const feedForward = `encoder.block.${i}.layer.1`
  const biasTable: LayoutTensor = { name: BIAS_TABLE, shape: [config.numBuckets, config.numHeads], role: 'embedding' }
  return [
    ...['q', 'k', 'v'].flatMap((name) => linear(`${attention}.SelfAttention.${name}`, inner, dModel, false)),
    ...linear(`${attention}.SelfAttention.o`, dModel, inner, false),
    ...(i === 0 ? [biasTable] : []),
    { name: `${attention}.layer_norm.weight`, shape: [dModel], role: 'norm' },
    ...linear(`${feedForward}.DenseReluDense.wi_0`, dFf, dModel, false),
    ...linear(`${feedForward}.DenseReluDense.wi_1`, dFf, dModel, false),
    ...linear(`${feedForward}.DenseReluDense.wo`, dModel, dFf, false),
    { name: `${feedForward}.layer_norm.weight`, shape: [dModel], role: 'norm' },
  ]
}

/**
 * Reads the configuration from canonical names and shapes. The number of heads comes from the table of position biases.
 *
 * @param overrides a value that shapes cannot show: `maxDistance`
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function t5Config(tensors: Map<string, TensorShape>, overrides?: Partial<T5Config>): T5Config {
  const [vocabSize, dModel] = shapeOf(tensors, 'shared.weight', 2) as [number, number]
  const [numBuckets, numHeads] = shapeOf(tensors, BIAS_TABLE, 2) as [number, number]
  return completeConfig<T5Config>(
    {
      dModel,
      dKv: shapeOf(tensors, 'encoder.block.0.layer.0.SelfAttention.q.weight', 2)[0]! / numHeads,
      numHeads,
      dFf: shapeOf(tensors, 'encoder.block.0.layer.1.DenseReluDense.wi_0.weight', 2)[0]!,
      numLayers: countBlocks(tensors.keys(), 'encoder.block.', 'layer.0.SelfAttention.q.weight'),
      vocabSize,
      numBuckets,
      maxDistance: 128,
    },
    T5_RULES,
    overrides,
  )
}
