import type { NetworkDefinition } from '../definition.js'
import { attentionFlops, productFlops } from '../flops.js'
import { patchCount, VISION_RULES } from '../vision.js'
import { siglipConfig, siglipLayout, type SiglipConfig } from './layout.js'
import { SIGLIP_NAMES } from './names.js'

/** SigLIP's vision tower, which Redux reads. Examples: google/siglip-so400m-patch14-384 on huggingface.co. */
export const SIGLIP: NetworkDefinition<SiglipConfig, 'siglip'> = {
  kind: 'siglip',
  label: 'a SigLIP vision tower',
  role: 'vision tower',
  describe: ({ imageSize, patchSize }) => `SigLIP vision tower (${imageSize} pixels, patches of ${patchSize})`,
  names: SIGLIP_NAMES,
  rules: VISION_RULES,
  readConfig: siglipConfig,
  layout: siglipLayout,
  nativeConfig: ({ imageSize, ...numbers }) => ({ ...numbers, patches: patchCount({ imageSize, ...numbers }) }),
  flops(config) {
    const patches = patchCount(config)
    return {
      products: productFlops(siglipLayout(config), () => patches),
      attention: config.numLayers * attentionFlops(patches, config.hiddenSize),
    }
  },
  gguf: { architecture: 'siglip' },
  keep: [],
  random: [{ name: /position_embedding/, standardDeviation: 0.4 }],
  examples: {
    'siglip-so400m': {
      hiddenSize: 1152,
      numHeads: 16,
      numLayers: 27,
      intermediateSize: 4304,
      imageSize: 384,
      patchSize: 14,
    },
    'siglip-tiny': {
      hiddenSize: 64,
      numHeads: 4,
      numLayers: 2,
      intermediateSize: 176,
      imageSize: 56,
      patchSize: 14,
    },
  },
}
