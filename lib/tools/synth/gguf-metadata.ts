import type { NetworkKind } from '../../native/addon.js'
import type { T5Vocabulary } from '../../tokenizers/t5-vocabulary.js'
import type { Architecture } from '../../networks/architectures.js'
import type { T5Config } from '../../networks/t5/layout.js'
import type { MetadataValue } from '../../formats/model-file.js'
import type { TensorType } from '../../formats/tensor-types.js'

/** The types that a whole model can have, with the numbers of `general.file_type` (ggml-org/llama.cpp `include/llama.h`, `llama_ftype`). */
export const FILE_TYPES = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 7,
  Q5_0: 8,
  Q5_1: 9,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 14,
  Q5_K: 16,
  Q6_K: 18,
  IQ4_NL: 25,
  IQ4_XS: 30,
  BF16: 32,
} as const satisfies Partial<Record<TensorType, number>>

export type FileType = keyof typeof FILE_TYPES

/** `GGML_QNT_VERSION` of `ggml.h`: the layout of the block types. */
const QUANTIZATION_VERSION = 2

const GGUF_ARCHITECTURES: Record<NetworkKind, string> = {
  flux: 'flux',
  t5: 't5encoder',
  clip: 'clip',
  autoencoder: 'autoencoder',
  'tiny-decoder': 'taef1',
}

/**
 * Metadata of a GGUF file. Keys: ggml-org/ggml `docs/gguf.md`.
 *
 * @param name what `general.name` says
 * @param vocabulary of T5's tokenizer, which other tools look for in its file
 */
export function ggufMetadata(
  architecture: Architecture,
  name: string,
  type: FileType,
  vocabulary?: T5Vocabulary,
): Record<string, MetadataValue> {
  return {
    'general.architecture': GGUF_ARCHITECTURES[architecture.kind],
    'general.name': name,
    'general.quantization_version': QUANTIZATION_VERSION,
    'general.file_type': FILE_TYPES[type],
    ...(architecture.kind === 't5' ? t5Metadata(architecture.config) : {}),
    ...(vocabulary ? tokenizerMetadata(vocabulary) : {}),
  }
}

function t5Metadata(config: T5Config): Record<string, MetadataValue> {
  return {
    't5encoder.vocab_size': config.vocabSize,
    't5encoder.block_count': config.numLayers,
    't5encoder.embedding_length': config.dModel,
    't5encoder.feed_forward_length': config.dFf,
    't5encoder.attention.head_count': config.numHeads,
    't5encoder.attention.key_length': config.dKv,
    't5encoder.attention.value_length': config.dKv,
    't5encoder.attention.layer_norm_rms_epsilon': 1e-6,
    't5encoder.attention.relative_buckets_count': config.numBuckets,
  }
}

function tokenizerMetadata(vocabulary: T5Vocabulary): Record<string, MetadataValue> {
  const { tokens, scores, types, padId, endId, unknownId, characterMap, addSpacePrefix, removeExtraWhitespaces } =
    vocabulary
  const ids = { padding_token_id: padId, eos_token_id: endId, unknown_token_id: unknownId }
  const given = Object.entries(ids).filter((entry): entry is [string, number] => entry[1] !== undefined)
  return {
    'tokenizer.ggml.model': 't5',
    'tokenizer.ggml.tokens': [...tokens],
    'tokenizer.ggml.scores': Float32Array.from(scores),
    'tokenizer.ggml.token_type': Int32Array.from(types),
    ...Object.fromEntries(given.map(([key, id]) => [`tokenizer.ggml.${key}`, id])),
    ...(characterMap ? { 'tokenizer.ggml.precompiled_charsmap': characterMap } : {}),
    'tokenizer.ggml.add_space_prefix': addSpacePrefix,
    'tokenizer.ggml.remove_extra_whitespaces': removeExtraWhitespaces,
    'tokenizer.ggml.add_bos_token': false,
    'tokenizer.ggml.add_eos_token': true,
  }
}
