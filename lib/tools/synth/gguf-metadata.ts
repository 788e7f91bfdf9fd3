import type { MetadataValue } from '../../formats/model-file.js'
import type { TensorType } from '../../formats/tensor-types.js'
import type { NetworkDefinition } from '../../networks/definition.js'

/**
 * The types that a whole model can have, with the numbers of `general.file_type` (ggml-org/llama.cpp `include/llama.h`,
 * `llama_ftype`).
 */
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

/**
 * Metadata of a GGUF file. Keys: ggml-org/ggml `docs/gguf.md`.
 *
 * @param name the value of `general.name`
 */
export function ggufMetadata<C extends object>(
  { gguf }: NetworkDefinition<C>,
  config: C,
  name: string,
  type: FileType,
): Record<string, MetadataValue> {
  return {
    'general.architecture': gguf.architecture,
    'general.name': name,
    'general.quantization_version': QUANTIZATION_VERSION,
    'general.file_type': FILE_TYPES[type],
    ...gguf.metadata?.(config),
  }
}
