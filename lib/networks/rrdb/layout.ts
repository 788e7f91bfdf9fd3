import { FluxError } from '../../errors.js'
import { completeConfig, type ConfigRules } from '../config-rules.js'
import { countBlocks, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/** The configuration of an RRDBNet (ESRGAN, Real-ESRGAN). */
export interface RrdbConfig {
  /** residual-in-residual dense blocks */
  blocks: number
  /** channels between the blocks */
  features: number
  /** channels that each convolution of a dense block adds */
  growth: number
  /** side of the squares of pixels that become channels before the first layer: 1, 2 or 4 */
  unshuffle: number
  /** how often the image is doubled after the blocks */
  doublings: number
}

export const RRDB_RULES: ConfigRules<RrdbConfig> = {
  blocks: { kind: 'integer', min: 1, max: 64 },
  features: { kind: 'integer', min: 8, max: 512 },
  growth: { kind: 'integer', min: 4, max: 256 },
  unshuffle: { kind: 'integer', min: 1, max: 4 },
  doublings: { kind: 'integer', min: 0, max: 3 },
}

export const DENSE_BLOCKS = 3
const DENSE_CONVOLUTIONS = 5

/** The size of the result in relation to the image. */
export const scaleOf = ({ unshuffle, doublings }: RrdbConfig): number => 2 ** doublings / unshuffle

/** All tensors, with the names of XPixelGroup/BasicSR `basicsr/archs/rrdbnet_arch.py`. */
export function rrdbLayout({ blocks, features, growth, unshuffle, doublings }: RrdbConfig): LayoutTensor[] {
  const denseBlock = (name: string) =>
    range(DENSE_CONVOLUTIONS).flatMap((i) => {
      const out = i === DENSE_CONVOLUTIONS - 1 ? features : growth
      return convolution(`${name}.conv${i + 1}`, out, features + i * growth)
    })
  return [
    ...convolution('conv_first', features, 3 * unshuffle ** 2),
    ...range(blocks).flatMap((i) => range(DENSE_BLOCKS).flatMap((j) => denseBlock(`body.${i}.rdb${j + 1}`))),
    ...convolution('conv_body', features, features),
    ...range(doublings).flatMap((i) => convolution(`conv_up${i + 1}`, features, features)),
    ...convolution('conv_hr', features, features),
    ...convolution('conv_last', 3, features),
  ]
}

function convolution(name: string, out: number, input: number): LayoutTensor[] {
  return [
    { name: `${name}.weight`, shape: [out, input, 3, 3], role: 'convolution' },
    { name: `${name}.bias`, shape: [out], role: 'bias' },
  ]
}

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function rrdbConfig(tensors: Map<string, TensorShape>, overrides?: Partial<RrdbConfig>): RrdbConfig {
  const [features, channels] = shapeOf(tensors, 'conv_first.weight', 4) as [number, number]
  const [growth] = shapeOf(tensors, 'body.0.rdb1.conv1.weight', 4) as [number]
  const unshuffle = Math.sqrt(channels / 3)
  if (![1, 2, 4].includes(unshuffle))
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `tensor conv_first.weight takes ${channels} channels; expected 3, or 12 or 48 for squares of 2 x 2 or 4 x 4 pixels. Use a network for RGB images`,
    )
  const doublings = range(RRDB_RULES.doublings.max!).findIndex((i) => !tensors.has(`conv_up${i + 1}.weight`))
  const derived = {
    blocks: countBlocks(tensors.keys(), 'body.', 'rdb1.conv1.weight'),
    features,
    growth,
    unshuffle,
    doublings: doublings < 0 ? RRDB_RULES.doublings.max! : doublings,
  }
  const config = completeConfig<RrdbConfig>(derived, RRDB_RULES, overrides)
  if (scaleOf(config) >= 1) return config
  throw new FluxError(
    'FLUX_UNSUPPORTED',
    `by its tensors' shapes it makes images ${scaleOf(config)} times as large; expected 1, 2, 4 or 8. Use another network`,
  )
}
