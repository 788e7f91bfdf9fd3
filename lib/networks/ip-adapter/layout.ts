import { completeConfig, type ConfigRules } from '../config-rules.js'
import { affineNorm, countBlocks, linear, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/** The configuration of XLabs' IP-Adapter for FLUX.1. */
export interface IpAdapterConfig {
  /** width of CLIP's embedding of an image */
  clipEmbeddingsDim: number
  /** the tokens that an image becomes: 4 (v1), 16 (v2) */
  numTokens: number
  /** width of these tokens */
  contextDim: number
  /** the transformer's width */
  hiddenSize: number
  /** the transformer's number of double blocks */
  depth: number
}

export const IP_ADAPTER_RULES: ConfigRules<IpAdapterConfig> = {
  clipEmbeddingsDim: { kind: 'integer', min: 1, max: 65536 },
  numTokens: { kind: 'integer', min: 1, max: 4096 },
  contextDim: { kind: 'integer', min: 1, max: 65536 },
  hiddenSize: { kind: 'integer', min: 64, max: 16384 },
  depth: { kind: 'integer', min: 1, max: 256 },
}

const projection = (block: number, name: 'k' | 'v') =>
  `double_blocks.${block}.processor.ip_adapter_double_stream_${name}_proj`

/** All tensors, in the order of XLabs' files. */
export function ipAdapterLayout(config: IpAdapterConfig): LayoutTensor[] {
  const { clipEmbeddingsDim, numTokens, contextDim, hiddenSize, depth } = config
  return [
    ...linear('ip_adapter_proj_model.proj', numTokens * contextDim, clipEmbeddingsDim),
    ...affineNorm('ip_adapter_proj_model.norm', contextDim),
    ...range(depth).flatMap((i) => [
      ...linear(projection(i, 'k'), hiddenSize, contextDim),
      ...linear(projection(i, 'v'), hiddenSize, contextDim),
    ]),
  ]
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function ipAdapterConfig(
  tensors: Map<string, TensorShape>,
  overrides?: Partial<IpAdapterConfig>,
): IpAdapterConfig {
  const [width, clipEmbeddingsDim] = shapeOf(tensors, 'ip_adapter_proj_model.proj.weight', 2) as [number, number]
  const [contextDim] = shapeOf(tensors, 'ip_adapter_proj_model.norm.weight', 1) as [number]
  const depth = countBlocks(tensors.keys(), 'double_blocks.', 'processor.ip_adapter_double_stream_k_proj.weight')
  return completeConfig<IpAdapterConfig>(
    {
      clipEmbeddingsDim,
      numTokens: width / contextDim,
      contextDim,
      hiddenSize: shapeOf(tensors, `${projection(0, 'k')}.weight`, 2)[0]!,
      depth,
    },
    IP_ADAPTER_RULES,
    overrides,
  )
}
