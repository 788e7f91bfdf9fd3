import type { NetworkDefinition } from '../definition.js'
import { attentionFlops, productFlops } from '../flops.js'
import { FLUX_DEV, FLUX_RANDOM, fluxColumns, fluxNumbers } from '../flux/definition.js'
import { CONTROLNET_RULES, controlNetConfig, controlNetLayout, hintLayers, type ControlNetConfig } from './layout.js'
import { CONTROLNET_NAMES } from './names.js'

const { outChannels: _, ...trunk } = FLUX_DEV

/** The structure of InstantX/FLUX.1-dev-Controlnet-Union. */
const union: ControlNetConfig = {
  ...trunk,
  depth: 5,
  depthSingleBlocks: 10,
  condChannels: 64,
  modes: 10,
  rgb: false,
  mistoline: false,
}

const PIXELS_PER_TOKEN = 16 * 16

/** A ControlNet for FLUX.1. Examples: InstantX, Shakker-Labs, alimama-creative, XLabs-AI, TheMistoAI on huggingface.co. */
export const CONTROLNET: NetworkDefinition<ControlNetConfig, 'controlnet'> = {
  kind: 'controlnet',
  label: 'a ControlNet for FLUX.1',
  role: 'controlnet',
  describe(config) {
    const { modes, rgb, mistoline, condChannels, depth, depthSingleBlocks } = config
    const form = mistoline ? 'Mistoline' : rgb ? 'XLabs' : condChannels > config.inChannels ? 'inpainting' : undefined
    const what = form ?? (modes > 0 ? `union of ${modes} modes` : 'one kind of control image')
    return `ControlNet for FLUX.1 (${what}, ${depth} + ${depthSingleBlocks} blocks)`
  },
  names: CONTROLNET_NAMES,
  rules: CONTROLNET_RULES,
  readConfig: controlNetConfig,
  layout: controlNetLayout,
  nativeConfig: ({ rgb, mistoline, ...config }) => ({ ...fluxNumbers(config), form: mistoline ? 2 : Number(rgb) }),
  // with what the transformer does not use: where 19 blocks have 6 samples, the sixth
  flops(config, [imageTokens, text]: readonly [number, number]) {
    const textTokens = config.modes > 0 ? text + 1 : text // the mode is one more token
    const hint = new Map(hintLayers(config).map(({ name, reduction }) => [`${name}.weight`, reduction]))
    const columns = (name: string): number => {
      const reduction = hint.get(name)
      if (reduction !== undefined) return (PIXELS_PER_TOKEN * imageTokens) / reduction ** 2
      const whole = config.mistoline && name.startsWith('controlnet_single_blocks.')
      return whole
        ? imageTokens + textTokens
        : fluxColumns(name, imageTokens, name.startsWith('txt_in') ? text : textTokens)
    }
    return {
      products: productFlops(controlNetLayout(config), columns),
      attention:
        (config.depth + config.depthSingleBlocks) * attentionFlops(imageTokens + textTokens, config.hiddenSize),
    }
  },
  gguf: { architecture: 'flux-controlnet' },
  // all data passes through the first layers
  keep: [
    { name: /^(img_in|txt_in|time_in|vector_in|guidance_in|pos_embed_input|controlnet_mode_embedder)\./, type: 'BF16' },
  ],
  random: [
    ...FLUX_RANDOM,
    // samples that leave the transformer's own activations recognisable
    { name: /^controlnet_(single_)?blocks\..*\.weight$/, gain: 0.2 },
    // SiLU between the convolutions
    { name: /^input_(hint|cond)_block\..*\.weight$/, gain: 1.5 },
  ],
  examples: {
    'flux-controlnet-union': union,
    'flux-controlnet-union-pro-2': { ...union, depth: 6, depthSingleBlocks: 0, modes: 0 },
    'flux-controlnet-inpainting': { ...union, depth: 6, depthSingleBlocks: 0, modes: 0, condChannels: 68 },
    'flux-controlnet-xlabs': { ...union, depth: 2, depthSingleBlocks: 0, modes: 0, rgb: true },
    'flux-controlnet-mistoline': { ...union, depth: 3, depthSingleBlocks: 2, modes: 0, rgb: true, mistoline: true },
    'flux-controlnet-tiny': {
      ...union,
      hiddenSize: 256,
      numHeads: 2,
      depth: 2,
      depthSingleBlocks: 2,
      contextInDim: 256,
      vecInDim: 128,
    },
  },
}
