import type { NetworkDefinition } from '../definition.js'
import { productFlops } from '../flops.js'
import { RRDB_RULES, rrdbConfig, rrdbLayout, scaleOf, type RrdbConfig } from './layout.js'
import { RRDB_NAMES } from './names.js'

const X4: RrdbConfig = { blocks: 23, features: 64, growth: 32, unshuffle: 1, doublings: 2 }

/** Enlarges images. Examples: xinntao/Real-ESRGAN `inference_realesrgan.py`. */
export const RRDB: NetworkDefinition<RrdbConfig, 'rrdb'> = {
  kind: 'rrdb',
  label: 'a network that enlarges images (RRDBNet)',
  role: 'upscaler',
  describe: (config) => `RRDBNet of ${config.blocks} blocks, ${scaleOf(config)} x (ESRGAN, Real-ESRGAN)`,
  names: RRDB_NAMES,
  rules: RRDB_RULES,
  readConfig: rrdbConfig,
  layout: rrdbLayout,
  nativeConfig: (config) => ({ ...config }),
  /** the shape of the image after pixels have become channels */
  flops(config, [height, width]: readonly [number, number]) {
    const columns = (name: string) => {
      const [, up] = /^conv_up(\d)/.exec(name) ?? []
      const doublings = up !== undefined ? Number(up) : /^conv_(hr|last)\./.test(name) ? config.doublings : 0
      return height * width * 4 ** doublings
    }
    return { products: productFlops(rrdbLayout(config), columns), attention: 0 }
  },
  gguf: { architecture: 'rrdb' },
  keep: [],
  // images have about half the scale of other inputs; a leaky ReLU removes half of its input; what the dense blocks add
  // is multiplied by 0.2 twice
  random: [
    { name: /\.conv[1-4]\.weight$|^conv_(up\d|hr)\.weight$/, gain: 1.4 },
    { name: /^conv_last\.weight$/, gain: 0.5 },
  ],
  examples: {
    'rrdb-x4': X4,
    'rrdb-x2': { ...X4, unshuffle: 2 },
    'rrdb-anime': { ...X4, blocks: 6 },
    'rrdb-tiny': { ...X4, blocks: 2, features: 16, growth: 8 },
  },
}
