import { autoencoderLayout, type AutoencoderConfig } from '../networks/autoencoder/layout.js'
import { clipLayout, type ClipConfig } from '../networks/clip/layout.js'
import { fluxLayout, type FluxConfig } from '../networks/flux/layout.js'
import type { LayoutTensor } from '../networks/layout.js'
import { t5Layout, type T5Config } from '../networks/t5/layout.js'

/** Multiplications and additions of one evaluation; what is left out (norms, activations, rotations) is less than a hundredth. */
export interface Operations {
  /** products with weights: linear layers and convolutions */
  products: number
  /** products of queries with keys, and of probabilities with values */
  attention: number
}

/** @param imageTokens (width / 16) (height / 16) at 8-fold reduction and patches of 2 x 2 */
export function transformerOperations(config: FluxConfig, imageTokens: number, textTokens: number): Operations {
  const columns = (name: string): number => {
    if (/mod\.lin|modulation|^(time|vector|guidance)_in/.test(name)) return 1
    if (name.startsWith('single_blocks.')) return imageTokens + textTokens
    return /^txt_in|\.txt_/.test(name) ? textTokens : imageTokens
  }
  const blocks = config.depth + config.depthSingleBlocks
  return {
    products: products(fluxLayout(config), columns),
    attention: blocks * attention(imageTokens + textTokens, config.hiddenSize),
  }
}

export function t5Operations(config: T5Config, tokens: number): Operations {
  const { numLayers, numHeads, dKv } = config
  return {
    products: products(t5Layout(config), () => tokens),
    attention: numLayers * attention(tokens, numHeads * dKv),
  }
}

export function clipOperations(config: ClipConfig): Operations {
  const { numLayers, hiddenSize, maxPositions } = config
  return {
    products: products(clipLayout(config), () => maxPositions),
    attention: numLayers * attention(maxPositions, hiddenSize),
  }
}

/** @param pixels of the latent: (width / 8) (height / 8) at 8-fold reduction */
export function decoderOperations(config: AutoencoderConfig, pixels: number): Operations {
  const levels = config.chMult.length
  const columns = (name: string): number => {
    const [, level, upsample] = /^decoder\.up\.(\d+)\.(upsample)?/.exec(name) ?? []
    if (level !== undefined) return pixels * 4 ** (levels - 1 - Number(level) + (upsample ? 1 : 0))
    return name.startsWith('decoder.conv_out') ? pixels * 4 ** (levels - 1) : pixels
  }
  const layout = autoencoderLayout({ ...config, hasEncoder: false, hasDecoder: true })
  return { products: products(layout, columns), attention: attention(pixels, config.ch * config.chMult.at(-1)!) }
}

/** Each number of a weight is multiplied with each column, and added. */
function products(layout: LayoutTensor[], columns: (name: string) => number): number {
  const weights = layout.filter(({ role }) => role === 'matrix' || role === 'convolution')
  return weights.reduce((sum, { name, shape }) => sum + 2 * shape.reduce((a, b) => a * b, 1) * columns(name), 0)
}

const attention = (tokens: number, width: number): number => 4 * tokens ** 2 * width
