import type { DistributionRule, NetworkDefinition } from '../definition.js'
import { attentionFlops, productFlops } from '../flops.js'
import { FLUX_RULES, fluxConfig, fluxLayout, type FluxConfig, type TrunkConfig } from './layout.js'
import { FLUX_LORA_NAMES, FLUX_NAMES } from './names.js'

export const FLUX_DEV: FluxConfig = {
  inChannels: 64,
  outChannels: 64,
  hiddenSize: 3072,
  numHeads: 24,
  depth: 19,
  depthSingleBlocks: 38,
  contextInDim: 4096,
  vecInDim: 768,
  guidanceEmbed: true,
  axesDim: [16, 56, 56],
  theta: 10000,
}

/**
 * FLUX.1's published variants by the number of channels of an image token: 16 latent channels of 2 x 2, plus those of
 * control inputs.
 */
const VARIANTS: Record<number, string> = { 64: 'dev', 128: 'Canny or Depth', 384: 'Fill' }

export const FLUX_RANDOM: readonly DistributionRule[] = [
  // scales, shifts and gates of every block: with gates of order 1/2, 57 blocks add up to a few times the input
  { name: /(mod|modulation)\.lin\.weight$|adaLN_modulation\.1\.weight$/, gain: 0.5 },
  // SiLU between the two layers removes about half
  { name: /^(time|vector|guidance)_in\..*\.weight$/, gain: 1.5 },
]

/** {@link NetworkDefinition.nativeConfig} */
export const fluxNumbers = <C extends TrunkConfig>({ axesDim, guidanceEmbed, ...numbers }: C) => {
  const [axesDim0, axesDim1, axesDim2] = axesDim
  return { ...numbers, guidanceEmbed: Number(guidanceEmbed), axesDim0, axesDim1, axesDim2 }
}

/** How many columns a matrix of the transformer, or of a ControlNet, is multiplied with. */
export function fluxColumns(name: string, imageTokens: number, textTokens: number): number {
  if (/mod\.lin|modulation|^(time|vector|guidance)_in/.test(name)) return 1
  if (name.startsWith('single_blocks.')) return imageTokens + textTokens
  return /^txt_in|\.txt_/.test(name) ? textTokens : imageTokens
}

/** The transformer of FLUX.1. Examples: black-forest-labs/flux `src/flux/util.py`. */
export const FLUX: NetworkDefinition<FluxConfig, 'flux'> = {
  kind: 'flux',
  label: 'a FLUX transformer',
  role: 'transformer',
  describe({ inChannels, guidanceEmbed }) {
    const variant = VARIANTS[inChannels] ?? `${inChannels} channels`
    if (guidanceEmbed) return `FLUX.1 with guidance (${variant})`
    return inChannels === 64 ? 'FLUX.1 without guidance (schnell)' : `FLUX.1 without guidance (${variant})`
  },
  names: FLUX_NAMES,
  rules: FLUX_RULES,
  readConfig: fluxConfig,
  layout: fluxLayout,
  nativeConfig: fluxNumbers,
  flops(config, [imageTokens, textTokens]: readonly [number, number]) {
    const blocks = config.depth + config.depthSingleBlocks
    return {
      products: productFlops(fluxLayout(config), (name) => fluxColumns(name, imageTokens, textTokens)),
      attention: blocks * attentionFlops(imageTokens + textTokens, config.hiddenSize),
    }
  },
  // 8-fold reduction and patches of 2 x 2
  stepShape: (width, height, textTokens) => [(width / 16) * (height / 16), textTokens],
  gguf: { architecture: 'flux' },
  // all data passes through the first and last layers
  keep: [{ name: /^(img_in|txt_in|time_in|vector_in|guidance_in|final_layer)\./, type: 'BF16' }],
  random: FLUX_RANDOM,
  lora: FLUX_LORA_NAMES,
  examples: {
    'flux-dev': FLUX_DEV,
    'flux-schnell': { ...FLUX_DEV, guidanceEmbed: false },
    'flux-fill': { ...FLUX_DEV, inChannels: 384 },
    'flux-canny': { ...FLUX_DEV, inChannels: 128 },
    'flux-tiny': {
      ...FLUX_DEV,
      hiddenSize: 256,
      numHeads: 2,
      depth: 2,
      depthSingleBlocks: 2,
      contextInDim: 256,
      vecInDim: 128,
    },
  },
}
