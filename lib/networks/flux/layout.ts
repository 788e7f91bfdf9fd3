import { FluxError } from '../../errors.js'
import { completeConfig, type ConfigRules } from '../config-rules.js'
import { countBlocks, linear, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/**
 * The transformer's configuration. The names are those of `FluxParams` in black-forest-labs/flux, `src/flux/model.py`.
 */
export interface FluxConfig {
  /** channels of an image token: 64, 128 (Canny, Depth), 384 (Fill) */
  inChannels: number
  outChannels: number
  hiddenSize: number
  numHeads: number
  /** the number of double blocks */
  depth: number
  depthSingleBlocks: number
  /** width of T5's output */
  contextInDim: number
  /** width of CLIP's pooled output */
  vecInDim: number
  /** true if guidance is an input (dev), false if it is distilled away (schnell) */
  guidanceEmbed: boolean
  /**
   * the number of head elements that are rotated by index, row and column; their sum is the head dimension.
   *
   * @default [16, 56, 56]
   */
  axesDim: [number, number, number]
  /** base of the rotary frequencies. @default 10000 */
  theta: number
}

/** The length of the sinusoid that is the input of `time_in` and `guidance_in`. */
const SINUSOID = 256
const MLP_RATIO = 4
const OFFICIAL_AXES: [number, number, number] = [16, 56, 56]

export const FLUX_RULES: ConfigRules<FluxConfig> = {
  inChannels: { kind: 'integer', min: 1, max: 4096 },
  outChannels: { kind: 'integer', min: 1, max: 4096 },
  hiddenSize: { kind: 'integer', min: 64, max: 16384 },
  numHeads: { kind: 'integer', min: 1, max: 256 },
  depth: { kind: 'integer', min: 1, max: 256 },
  depthSingleBlocks: { kind: 'integer', min: 1, max: 256 },
  contextInDim: { kind: 'integer', min: 1, max: 65536 },
  vecInDim: { kind: 'integer', min: 1, max: 65536 },
  guidanceEmbed: { kind: 'boolean' },
  axesDim: { kind: 'integers', min: 2, max: 512, multipleOf: 2, length: [3, 3], free: true },
  theta: { kind: 'number', min: 1, max: 1e9, free: true },
}

/** All tensors of the transformer, in the order of the official files. */
export function fluxLayout(config: FluxConfig): LayoutTensor[] {
  const { hiddenSize: hidden } = config
  return [
    ...trunkLayout(config),
    ...linear('final_layer.linear', config.outChannels, hidden),
    ...linear('final_layer.adaLN_modulation.1', 2 * hidden, hidden),
  ]
}

/** The configuration of the parts that a ControlNet shares with the transformer. */
export type TrunkConfig = Omit<FluxConfig, 'outChannels'>

/** All tensors but those of the last layer. */
export function trunkLayout(config: TrunkConfig): LayoutTensor[] {
  const { hiddenSize: hidden, depth, depthSingleBlocks } = config
  const embedder = (name: string, input: number) => [
    ...linear(`${name}.in_layer`, hidden, input),
    ...linear(`${name}.out_layer`, hidden, hidden),
  ]
  return [
    ...linear('img_in', hidden, config.inChannels),
    ...embedder('time_in', SINUSOID),
    ...embedder('vector_in', config.vecInDim),
    ...(config.guidanceEmbed ? embedder('guidance_in', SINUSOID) : []),
    ...linear('txt_in', hidden, config.contextInDim),
    ...range(depth).flatMap((i) => doubleBlock(`double_blocks.${i}`, config)),
    ...range(depthSingleBlocks).flatMap((i) => singleBlock(`single_blocks.${i}`, config)),
  ]
}

function doubleBlock(block: string, config: TrunkConfig): LayoutTensor[] {
  const { hiddenSize: hidden } = config
  return ['img', 'txt'].flatMap((stream) => [
    ...linear(`${block}.${stream}_mod.lin`, 6 * hidden, hidden),
    ...linear(`${block}.${stream}_attn.qkv`, 3 * hidden, hidden),
    ...queryKeyNorm(`${block}.${stream}_attn.norm`, config),
    ...linear(`${block}.${stream}_attn.proj`, hidden, hidden),
    ...linear(`${block}.${stream}_mlp.0`, MLP_RATIO * hidden, hidden),
    ...linear(`${block}.${stream}_mlp.2`, hidden, MLP_RATIO * hidden),
  ])
}

function singleBlock(block: string, config: TrunkConfig): LayoutTensor[] {
  const { hiddenSize: hidden } = config
  return [
    ...linear(`${block}.linear1`, (3 + MLP_RATIO) * hidden, hidden),
    ...linear(`${block}.linear2`, hidden, (1 + MLP_RATIO) * hidden),
    ...queryKeyNorm(`${block}.norm`, config),
    ...linear(`${block}.modulation.lin`, 3 * hidden, hidden),
  ]
}

function queryKeyNorm(name: string, { hiddenSize, numHeads }: TrunkConfig): LayoutTensor[] {
  const shape = [hiddenSize / numHeads]
  return [
    { name: `${name}.query_norm.scale`, shape, role: 'norm' },
    { name: `${name}.key_norm.scale`, shape, role: 'norm' },
  ]
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @param overrides values that shapes cannot show: `axesDim` (required if the head dimension is not 128) and `theta`
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function fluxConfig(tensors: Map<string, TensorShape>, overrides?: Partial<FluxConfig>): FluxConfig {
  const outChannels = shapeOf(tensors, 'final_layer.linear.weight', 2)[0]!
  return checkedAxes(completeConfig<FluxConfig>({ ...trunkConfig(tensors), outChannels }, FLUX_RULES, overrides))
}

/** The part of the configuration that a ControlNet has as well, without axes if the head dimension is not 128. */
export function trunkConfig(tensors: Map<string, TensorShape>): Partial<TrunkConfig> {
  const [hiddenSize, inChannels] = shapeOf(tensors, 'img_in.weight', 2) as [number, number]
  const [headDim] = shapeOf(tensors, 'double_blocks.0.img_attn.norm.query_norm.scale', 1) as [number]
  return {
    inChannels,
    hiddenSize,
    numHeads: hiddenSize / headDim,
    depth: countBlocks(tensors.keys(), 'double_blocks.', 'img_mod.lin.weight'),
    depthSingleBlocks: countBlocks(tensors.keys(), 'single_blocks.', 'linear1.weight'),
    contextInDim: shapeOf(tensors, 'txt_in.weight', 2)[1]!,
    vecInDim: shapeOf(tensors, 'vector_in.in_layer.weight', 2)[1]!,
    guidanceEmbed: tensors.has('guidance_in.in_layer.weight'),
    ...(headDim === 128 ? { axesDim: OFFICIAL_AXES } : {}),
    theta: 10000,
  }
}

/** @throws {FluxError} FLUX_BAD_OPTION if the axes do not add up to the head dimension */
export function checkedAxes<C extends TrunkConfig>(config: C): C {
  const headDim = config.hiddenSize / config.numHeads
  const sum = config.axesDim.reduce((a, b) => a + b, 0)
  if (sum === headDim) return config
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `config.axesDim is [${config.axesDim.join(', ')}] with the sum ${sum}; the sum has to be the head dimension, ${headDim}`,
  )
}
