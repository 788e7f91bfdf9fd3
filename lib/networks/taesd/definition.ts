import type { NetworkDefinition } from '../definition.js'
import { productFlops } from '../flops.js'
import { TINY_DECODER_RULES, tinyDecoderConfig, tinyDecoderLayout, type TinyDecoderConfig } from './layout.js'
import { TINY_DECODER_NAMES } from './names.js'

/** The decoder of a tiny autoencoder, for previews. Examples: madebyollin/taef1 on huggingface.co. */
export const TINY_DECODER: NetworkDefinition<TinyDecoderConfig, 'tiny-decoder'> = {
  kind: 'tiny-decoder',
  label: 'a decoder for previews (TAEF1)',
  role: 'preview decoder',
  names: TINY_DECODER_NAMES,
  rules: TINY_DECODER_RULES,
  readConfig: tinyDecoderConfig,
  layout: tinyDecoderLayout,
  nativeConfig: (config) => ({ ...config }),
  flops(config, [height, width]: readonly [number, number]) {
    // layers 2 to 6 are the first stage, whose last layer has doubled sides, and so on
    const doublings = (name: string) => Math.max(0, Math.floor((Number(/\d+/.exec(name)![0]) - 1) / 5))
    const columns = (name: string) => height * width * 4 ** doublings(name)
    return { products: productFlops(tinyDecoderLayout(config), columns), attention: 0 }
  },
  gguf: { architecture: 'taef1' },
  keep: [],
  // a ReLU removes half of its input; blocks add up
  random: [
    { name: /\.conv\.4\.weight$/, gain: 0.4 },
    { name: /\.conv\.[02]\.weight$/, gain: 1.4 },
  ],
  examples: { taef1: { zChannels: 16, width: 64 } },
}
