import type { NetworkDefinition } from '../definition.js'
import { attentionFlops, productFlops } from '../flops.js'
import { patchCount } from '../vision.js'
import { CLIP_VISION_RULES, clipVisionConfig, clipVisionLayout, type ClipVisionConfig } from './layout.js'
import { CLIP_VISION_NAMES } from './names.js'

const large: ClipVisionConfig = {
  hiddenSize: 1024,
  numHeads: 16,
  numLayers: 24,
  intermediateSize: 4096,
  imageSize: 224,
  patchSize: 14,
  projectionDim: 768,
}

/** CLIP's vision tower, which XLabs' IP-Adapters read. Examples: openai/clip-vit-large-patch14 on huggingface.co. */
export const CLIP_VISION: NetworkDefinition<ClipVisionConfig, 'clip-vision'> = {
  kind: 'clip-vision',
  label: 'a CLIP vision tower',
  role: 'vision tower',
  describe: ({ imageSize, patchSize }) => `CLIP vision tower (${imageSize} pixels, patches of ${patchSize})`,
  names: CLIP_VISION_NAMES,
  rules: CLIP_VISION_RULES,
  readConfig: clipVisionConfig,
  layout: clipVisionLayout,
  nativeConfig: ({ imageSize, ...numbers }) => ({ ...numbers, patches: patchCount({ imageSize, ...numbers }) }),
  flops(config) {
    const patches = patchCount(config)
    const columns = (name: string): number => {
      if (name.startsWith('visual_projection')) return 1
      return name.includes('patch_embedding') ? patches : patches + 1 // the class token
    }
    return {
      products: productFlops(clipVisionLayout(config), columns),
      attention: config.numLayers * attentionFlops(patches + 1, config.hiddenSize),
    }
  },
  gguf: { architecture: 'clip-vision' },
  keep: [],
  random: [{ name: /(class|position)_embedding/, standardDeviation: 0.4 }],
  examples: {
    'clip-vision-l': large,
    'clip-vision-tiny': {
      hiddenSize: 64,
      numHeads: 4,
      numLayers: 2,
      intermediateSize: 256,
      imageSize: 56,
      patchSize: 14,
      projectionDim: 48,
    },
  },
}
