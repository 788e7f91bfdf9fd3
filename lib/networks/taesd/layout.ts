import { completeConfig, type ConfigRules } from '../config-rules.js'
import { range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/** The configuration of TAEF1's decoder. */
export interface TinyDecoderConfig {
  zChannels: number
  /** channels of all layers between the first and the last */
  width: number
}

export const TINY_DECODER_RULES: ConfigRules<TinyDecoderConfig> = {
  zChannels: { kind: 'integer', min: 1, max: 256 },
  width: { kind: 'integer', min: 8, max: 1024 },
}

const STAGES = 3
const BLOCKS = 3
/** layers of a stage: its blocks, the upsampling, a convolution */
const STAGE_LAYERS = BLOCKS + 2

/**
 * All tensors of the decoder, with the names of diffusers' `AutoencoderTiny`, where activations and upsamplings count
 * as layers.
 */
export function tinyDecoderLayout({ zChannels, width }: TinyDecoderConfig): LayoutTensor[] {
  const stages = range(STAGES).flatMap((stage) => {
    const first = 2 + stage * STAGE_LAYERS
    return [
      ...range(BLOCKS).flatMap((block) => blockAt(first + block, width)),
      weight(`decoder.layers.${first + BLOCKS + 1}`, width, width),
    ]
  })
  const last = 2 + STAGES * STAGE_LAYERS
  return [
    ...convolution('decoder.layers.0', width, zChannels),
    ...stages,
    ...blockAt(last, width),
    ...convolution(`decoder.layers.${last + 1}`, 3, width),
  ]
}

function blockAt(layer: number, width: number): LayoutTensor[] {
  return [0, 2, 4].flatMap((part) => convolution(`decoder.layers.${layer}.conv.${part}`, width, width))
}

function convolution(name: string, out: number, input: number): LayoutTensor[] {
  return [weight(name, out, input), { name: `${name}.bias`, shape: [out], role: 'bias' }]
}

function weight(name: string, out: number, input: number): LayoutTensor {
  return { name: `${name}.weight`, shape: [out, input, 3, 3], role: 'convolution' }
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function tinyDecoderConfig(
  tensors: Map<string, TensorShape>,
  overrides?: Partial<TinyDecoderConfig>,
): TinyDecoderConfig {
  const [width, zChannels] = shapeOf(tensors, 'decoder.layers.0.weight', 4) as [number, number]
  return completeConfig<TinyDecoderConfig>({ zChannels, width }, TINY_DECODER_RULES, overrides)
}
