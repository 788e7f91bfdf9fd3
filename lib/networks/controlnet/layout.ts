import { completeConfig, type ConfigRules } from '../config-rules.js'
import { checkedAxes, FLUX_RULES, trunkConfig, trunkLayout, type TrunkConfig } from '../flux/layout.js'
import { linear, range, shapeOf, type LayoutTensor, type TensorShape } from '../layout.js'

/**
 * The configuration of a ControlNet for FLUX.1. It has the transformer's blocks, fewer of them, and no last layer.
 *
 * `rgb` says that the control image is an RGB image, which goes through convolutions (XLabs, Mistoline); otherwise it
 * is a latent. `mistoline` selects Mistoline's structure.
 */
export interface ControlNetConfig extends TrunkConfig {
  /** channels of a token of the control image: 64; 68 with a mask after the latent (inpainting) */
  condChannels: number
  /** the number of modes of a union ControlNet; 0 if it has none */
  modes: number
  rgb: boolean
  mistoline: boolean
}

const { outChannels: _, ...TRUNK_RULES } = FLUX_RULES

export const CONTROLNET_RULES: ConfigRules<ControlNetConfig> = {
  ...TRUNK_RULES,
  depthSingleBlocks: { kind: 'integer', max: 256 },
  condChannels: { kind: 'integer', min: 1, max: 4096 },
  modes: { kind: 'integer', max: 4096 },
  rgb: { kind: 'boolean' },
  mistoline: { kind: 'boolean' },
}

const HINT_CHANNELS = 16

/** The convolutions of an RGB control image: names, sizes of the kernels, and how often they halve the sides. */
export interface HintLayer {
  name: string
  kernel: number
  /** the resolution of its output, relative to the image: 1, 2, 4 or 8 */
  reduction: number
}

const hintOf = (name: string, kernels: number[], reductions: number[]): HintLayer[] =>
  // activations are counted as layers
  kernels.map((kernel, i) => ({ name: `${name}.${2 * i}`, kernel, reduction: reductions[i]! }))

const XLABS_HINT = hintOf('input_hint_block', [3, 3, 3, 3, 3, 3, 3, 3], [1, 1, 2, 2, 4, 4, 8, 8])
const MISTOLINE_HINT = hintOf(
  'input_cond_block.encoder',
  [3, 1, 3, 3, 3, 3, 3, 3, 1, 3],
  [1, 1, 1, 2, 2, 4, 4, 8, 8, 8],
)

export const hintLayers = ({ rgb, mistoline }: Pick<ControlNetConfig, 'rgb' | 'mistoline'>): HintLayer[] =>
  mistoline ? MISTOLINE_HINT : rgb ? XLABS_HINT : []

/** All tensors, with the official names and those of ComfyUI. */
export function controlNetLayout(config: ControlNetConfig): LayoutTensor[] {
  const { hiddenSize: hidden, depth, depthSingleBlocks, condChannels, modes, mistoline } = config
  const suffix = mistoline ? '.linear' : ''
  return [
    ...trunkLayout(config),
    ...range(depth).flatMap((i) => linear(`controlnet_blocks.${i}${suffix}`, hidden, hidden)),
    ...range(depthSingleBlocks).flatMap((i) => linear(`controlnet_single_blocks.${i}${suffix}`, hidden, hidden)),
    ...(modes > 0 ? [modeEmbedder(modes, hidden)] : []),
    ...linear('pos_embed_input', hidden, condChannels),
    ...hintLayers(config).flatMap(({ name, kernel }, i): LayoutTensor[] => [
      {
        name: `${name}.weight`,
        shape: [HINT_CHANNELS, i === 0 ? 3 : HINT_CHANNELS, kernel, kernel],
        role: 'convolution',
      },
      { name: `${name}.bias`, shape: [HINT_CHANNELS], role: 'bias' },
    ]),
  ]
}

const modeEmbedder = (modes: number, hidden: number): LayoutTensor => ({
  name: 'controlnet_mode_embedder.weight',
  shape: [modes, hidden],
  role: 'embedding',
})

/**
 * Reads the configuration from canonical names and shapes.
 *
 * @param overrides values that shapes cannot show: `axesDim` (required if the head dimension is not 128) and `theta`
 * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
 *   for an invalid override
 */
export function controlNetConfig(
  tensors: Map<string, TensorShape>,
  overrides?: Partial<ControlNetConfig>,
): ControlNetConfig {
  const mistoline = tensors.has('controlnet_blocks.0.linear.weight')
  const modes = tensors.has('controlnet_mode_embedder.weight')
    ? shapeOf(tensors, 'controlnet_mode_embedder.weight', 2)[0]!
    : 0
  const config = completeConfig<ControlNetConfig>(
    {
      ...trunkConfig(tensors),
      condChannels: shapeOf(tensors, 'pos_embed_input.weight', 2)[1]!,
      modes,
      rgb: mistoline || tensors.has('input_hint_block.0.weight'),
      mistoline,
    },
    CONTROLNET_RULES,
    overrides,
  )
  return checkedAxes(config)
}
