import { syntheticT5Vocabulary } from '../../tokenizers/synthetic.js'
import { T5_TOKENIZER_FILES, readT5Vocabulary } from '../../tokenizers/t5.js'
import { t5VocabularyToGguf } from '../../tokenizers/t5-vocabulary.js'
import type { NetworkDefinition } from '../definition.js'
import { attentionFlops, productFlops } from '../flops.js'
import { T5_RULES, t5Config, t5Layout, type T5Config } from './layout.js'
import { llamaT5Name, T5_LORA_NAMES, T5_NAMES } from './names.js'

const xxl: T5Config = {
  dModel: 4096,
  dKv: 64,
  numHeads: 64,
  dFf: 10240,
  numLayers: 24,
  vocabSize: 32128,
  numBuckets: 32,
  maxDistance: 128,
}

/** The encoder of T5 v1.1. Examples: google/t5-v1_1-xxl on huggingface.co. */
export const T5: NetworkDefinition<T5Config, 't5'> = {
  kind: 't5',
  label: 'a T5 text encoder',
  role: 't5',
  names: T5_NAMES,
  rules: T5_RULES,
  readConfig: t5Config,
  layout: t5Layout,
  nativeConfig: (config) => ({ ...config }),
  flops(config, [tokens]: readonly [number]) {
    const { numLayers, numHeads, dKv } = config
    return {
      products: productFlops(t5Layout(config), () => tokens),
      attention: numLayers * attentionFlops(tokens, numHeads * dKv),
    }
  },
  gguf: {
    architecture: 't5encoder',
    metadata: (config) => ({
      't5encoder.vocab_size': config.vocabSize,
      't5encoder.block_count': config.numLayers,
      't5encoder.embedding_length': config.dModel,
      't5encoder.feed_forward_length': config.dFf,
      't5encoder.attention.head_count': config.numHeads,
      't5encoder.attention.key_length': config.dKv,
      't5encoder.attention.value_length': config.dKv,
      't5encoder.attention.layer_norm_rms_epsilon': 1e-6,
      't5encoder.attention.relative_buckets_count': config.numBuckets,
    }),
    rename: llamaT5Name,
    tokenizer: {
      folder: 'tokenizer_2',
      files: T5_TOKENIZER_FILES,
      metadata: async (path) => t5VocabularyToGguf((await readT5Vocabulary(path)).vocabulary),
    },
  },
  // ggml-org/llama.cpp `src/llama-quant.cpp`
  keep: [{ name: /relative_attention_bias/, type: 'F32' }],
  // T5 does not divide scores by sqrt(d_kv), so its query weights are smaller by that factor
  random: [{ name: /SelfAttention\.q\.weight$/, gain: 1 / 8 }],
  randomTokenizer: ({ vocabSize }) => ({ metadata: t5VocabularyToGguf(syntheticT5Vocabulary(vocabSize)) }),
  lora: T5_LORA_NAMES,
  examples: {
    't5-xxl': xxl,
    't5-tiny': { ...xxl, dModel: 256, dKv: 32, numHeads: 8, dFf: 512, numLayers: 3, vocabSize: 512 },
  },
}
