import type { NetworkDefinition } from '../definition.js'
import { attentionFlops, productFlops, type Flops } from '../flops.js'
import { AUTOENCODER_RULES, autoencoderConfig, autoencoderLayout, type AutoencoderConfig } from './layout.js'
import { AUTOENCODER_NAMES } from './names.js'

const flux: AutoencoderConfig = {
  ch: 128,
  chMult: [1, 2, 4, 4],
  numResBlocks: 2,
  zChannels: 16,
  scaleFactor: 0.3611,
  shiftFactor: 0.1159,
  hasEncoder: true,
  hasDecoder: true,
}

/** The cost of encoding an image to a latent [height, width]. */
export function encodingFlops(config: AutoencoderConfig, [height, width]: readonly [number, number]): Flops {
  const pixels = height * width
  const levels = config.chMult.length
  const columns = (name: string): number => {
    const [, level, downsample] = /^encoder\.down\.(\d+)\.(downsample)?/.exec(name) ?? []
    if (level !== undefined) return pixels * 4 ** (levels - 1 - Number(level) - (downsample ? 1 : 0))
    return name.startsWith('encoder.conv_in') ? pixels * 4 ** (levels - 1) : pixels
  }
  const layout = autoencoderLayout({ ...config, hasEncoder: true, hasDecoder: false })
  const deepest = config.ch * config.chMult.at(-1)!
  return { products: productFlops(layout, columns), attention: attentionFlops(pixels, deepest) }
}

/** The autoencoder of latent diffusion. Examples: black-forest-labs/flux `src/flux/util.py`. */
export const AUTOENCODER: NetworkDefinition<AutoencoderConfig, 'autoencoder'> = {
  kind: 'autoencoder',
  label: 'an autoencoder',
  role: 'autoencoder',
  names: AUTOENCODER_NAMES,
  rules: AUTOENCODER_RULES,
  readConfig: autoencoderConfig,
  layout: autoencoderLayout,
  nativeConfig: ({ chMult, hasEncoder, hasDecoder, ...numbers }) => ({
    ...numbers,
    levels: chMult.length,
    ...Object.fromEntries(chMult.map((mult, i) => [`chMult${i}`, mult])),
    hasEncoder: Number(hasEncoder),
    hasDecoder: Number(hasDecoder),
  }),
  /** the cost of decoding a latent */
  flops(config, [height, width]: readonly [number, number]) {
    const pixels = height * width
    const levels = config.chMult.length
    const columns = (name: string): number => {
      const [, level, upsample] = /^decoder\.up\.(\d+)\.(upsample)?/.exec(name) ?? []
      if (level !== undefined) return pixels * 4 ** (levels - 1 - Number(level) + (upsample ? 1 : 0))
      return name.startsWith('decoder.conv_out') ? pixels * 4 ** (levels - 1) : pixels
    }
    const layout = autoencoderLayout({ ...config, hasEncoder: false, hasDecoder: true })
    const deepest = config.ch * config.chMult.at(-1)!
    return { products: productFlops(layout, columns), attention: attentionFlops(pixels, deepest) }
  },
  gguf: { architecture: 'autoencoder' },
  keep: [],
  random: [
    // independent kernel values make an image of single-pixel noise; blurring kernels and weak residuals make soft
    // patches of colour
    { name: /(upsample\.conv|decoder\.conv_out)\.weight$/, gain: 1, smooth: true },
    { name: /(conv2|proj_out)\.weight$/, gain: 0.4 },
  ],
  examples: { autoencoder: flux, 'autoencoder-tiny': { ...flux, ch: 32 } },
}
