import { SMALLEST_CLIP_VOCABULARY, syntheticClipVocabulary } from '../../tokenizers/synthetic.js'
import type { NetworkDefinition } from '../definition.js'
import { attentionFlops, productFlops } from '../flops.js'
import { CLIP_RULES, clipConfig, clipLayout, type ClipConfig } from './layout.js'
import { CLIP_LORA_NAMES, CLIP_NAMES } from './names.js'

const large: ClipConfig = {
  hiddenSize: 768,
  numHeads: 12,
  numLayers: 12,
  intermediateSize: 3072,
  vocabSize: 49408,
  maxPositions: 77,
}

/** CLIP's text encoder. Examples: openai/clip-vit-large-patch14 on huggingface.co. */
export const CLIP: NetworkDefinition<ClipConfig, 'clip'> = {
  kind: 'clip',
  label: 'a CLIP text encoder',
  role: 'clip',
  names: CLIP_NAMES,
  rules: CLIP_RULES,
  readConfig: clipConfig,
  layout: clipLayout,
  nativeConfig: (config) => ({ ...config }),
  flops(config, [tokens]: readonly [number]) {
    const { numLayers, hiddenSize } = config
    return {
      products: productFlops(clipLayout(config), () => tokens),
      attention: numLayers * attentionFlops(tokens, hiddenSize),
    }
  },
  gguf: { architecture: 'clip' },
  keep: [{ name: /position_embedding/, type: 'F32' }],
  random: [
    { name: /token_embedding/, standardDeviation: 0.6 },
    { name: /position_embedding/, standardDeviation: 0.4 },
  ],
  randomTokenizer({ vocabSize }) {
    if (vocabSize < SMALLEST_CLIP_VOCABULARY) return {}
    const { vocab, merges } = syntheticClipVocabulary(vocabSize)
    const lines = ['#version: 0.2', ...merges].join('\n')
    return { files: { 'vocab.json': JSON.stringify(vocab), 'merges.txt': `${lines}\n` } }
  },
  lora: CLIP_LORA_NAMES,
  examples: {
    'clip-l': large,
    'clip-tiny': { ...large, hiddenSize: 128, numHeads: 2, numLayers: 3, intermediateSize: 512, vocabSize: 600 },
  },
}
