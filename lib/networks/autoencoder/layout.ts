import { FluxError } from '../../errors.js'
import { completeConfig, type ConfigRules } from '../config-rules.js'
import { affineNorm, countBlocks, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/**
 * The autoencoder's configuration. The names are those of `AutoEncoderParams` in black-forest-labs/flux,
 * `src/flux/modules/autoencoder.py`.
 */
export interface AutoencoderConfig {
  /** channels at full resolution; each level has `ch` times its `chMult` */
  ch: number
  chMult: number[]
  numResBlocks: number
  zChannels: number
  /** @default 0.3611 */
  scaleFactor: number
  /** @default 0.1159 */
  shiftFactor: number
  hasEncoder: boolean
  hasDecoder: boolean
}

const IMAGE_CHANNELS = 3
/** The number of groups of every GroupNorm. All channel counts are multiples of it. */
const GROUPS = 32

export const AUTOENCODER_RULES: ConfigRules<AutoencoderConfig> = {
  ch: { kind: 'integer', min: GROUPS, max: 1024, multipleOf: GROUPS },
  chMult: { kind: 'integers', min: 1, max: 32, length: [1, 8] },
  numResBlocks: { kind: 'integer', min: 1, max: 16 },
  zChannels: { kind: 'integer', min: 1, max: 256 },
  scaleFactor: { kind: 'number', min: 1e-4, max: 1e4, free: true },
  shiftFactor: { kind: 'number', min: -1e4, max: 1e4, free: true },
  hasEncoder: { kind: 'boolean' },
  hasDecoder: { kind: 'boolean' },
}

/** All tensors of the encoder and the decoder that the file has, in the order of the official file. */
export function autoencoderLayout(config: AutoencoderConfig): LayoutTensor[] {
  return [...(config.hasEncoder ? encoder(config) : []), ...(config.hasDecoder ? decoder(config) : [])]
}

function encoder({ ch, chMult, numResBlocks, zChannels }: AutoencoderConfig): LayoutTensor[] {
  const widths = chMult.map((mult) => ch * mult)
  const deepest = widths.at(-1)!
  const levels = widths.flatMap((width, level) => {
    const name = `encoder.down.${level}`
    const input = level === 0 ? ch : widths[level - 1]!
    return [
      ...range(numResBlocks).flatMap((block) =>
        resnetBlock(`${name}.block.${block}`, width, block === 0 ? input : width),
      ),
      ...(level < widths.length - 1 ? convolution(`${name}.downsample.conv`, width, width, 3) : []),
    ]
  })
  return [
    ...convolution('encoder.conv_in', ch, IMAGE_CHANNELS, 3),
    ...levels,
    ...middle('encoder.mid', deepest),
    ...affineNorm('encoder.norm_out', deepest),
    ...convolution('encoder.conv_out', 2 * zChannels, deepest, 3),
  ]
}

function decoder({ ch, chMult, numResBlocks, zChannels }: AutoencoderConfig): LayoutTensor[] {
  const widths = chMult.map((mult) => ch * mult)
  const deepest = widths.at(-1)!
  // the decoder runs from the last level to level 0, so a level's input has the width of the next level
  const levels = widths.flatMap((width, level) => {
    const name = `decoder.up.${level}`
    const input = widths[level + 1] ?? deepest
    return [
      ...range(numResBlocks + 1).flatMap((block) =>
        resnetBlock(`${name}.block.${block}`, width, block === 0 ? input : width),
      ),
      ...(level > 0 ? convolution(`${name}.upsample.conv`, width, width, 3) : []),
    ]
  })
  return [
    ...convolution('decoder.conv_in', deepest, zChannels, 3),
    ...middle('decoder.mid', deepest),
    ...levels,
    ...affineNorm('decoder.norm_out', widths[0]!),
    ...convolution('decoder.conv_out', IMAGE_CHANNELS, widths[0]!, 3),
  ]
}

function middle(name: string, width: number): LayoutTensor[] {
  return [
    ...resnetBlock(`${name}.block_1`, width, width),
    ...affineNorm(`${name}.attn_1.norm`, width),
    ...['q', 'k', 'v', 'proj_out'].flatMap((part) => convolution(`${name}.attn_1.${part}`, width, width, 1)),
    ...resnetBlock(`${name}.block_2`, width, width),
  ]
}

function resnetBlock(name: string, out: number, input: number): LayoutTensor[] {
  return [
    ...affineNorm(`${name}.norm1`, input),
    ...convolution(`${name}.conv1`, out, input, 3),
    ...affineNorm(`${name}.norm2`, out),
    ...convolution(`${name}.conv2`, out, out, 3),
    ...(out === input ? [] : convolution(`${name}.nin_shortcut`, out, input, 1)),
  ]
}

function convolution(name: string, out: number, input: number, kernel: number): LayoutTensor[] {
  return [
    { name: `${name}.weight`, shape: [out, input, kernel, kernel], role: 'convolution' },
    { name: `${name}.bias`, shape: [out], role: 'bias' },
  ]
}

/**
 * Reads the configuration from canonical names and shapes. A file may contain only the decoder or only the encoder. The
 * width at full resolution is then that of level 0.
 *
 * @param overrides values that shapes cannot show: `scaleFactor` and `shiftFactor`
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function autoencoderConfig(
  tensors: Map<string, TensorShape>,
  overrides?: Partial<AutoencoderConfig>,
): AutoencoderConfig {
  const names = [...tensors.keys()]
  const hasEncoder = names.some((name) => name.startsWith('encoder.'))
  const hasDecoder = names.some((name) => name.startsWith('decoder.'))
  const side = hasDecoder ? 'decoder.up.' : 'encoder.down.'
  const levels = countBlocks(names, side, 'block.0.conv1.weight')
  if (levels === 0)
    throw new FluxError(
      'FLUX_BAD_FILE',
      `tensor ${side}0.block.0.conv1.weight is missing. Use a complete copy of the model`,
    )
  const widths = range(levels).map((level) => shapeOf(tensors, `${side}${level}.block.0.conv1.weight`, 4)[0]!)
  const ch = hasEncoder ? shapeOf(tensors, 'encoder.conv_in.weight', 4)[0]! : widths[0]!
  const blocks = countBlocks(names, `${side}0.block.`, 'conv1.weight')
  return completeConfig<AutoencoderConfig>(
    {
      ch,
      chMult: widths.map((width) => width / ch),
      numResBlocks: hasDecoder ? blocks - 1 : blocks,
      zChannels: hasDecoder
        ? shapeOf(tensors, 'decoder.conv_in.weight', 4)[1]!
        : shapeOf(tensors, 'encoder.conv_out.weight', 4)[0]! / 2,
      scaleFactor: 0.3611,
      shiftFactor: 0.1159,
      hasEncoder,
      hasDecoder,
    },
    AUTOENCODER_RULES,
    overrides,
  )
}
