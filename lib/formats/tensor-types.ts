/**
 * The memory layout of a type: `blockSize` elements of a row take `blockBytes` bytes. `id` is ggml's number, or -1 if
 * ggml has none.
 */
export interface TensorTypeInfo {
  id: number
  blockSize: number
  blockBytes: number
}

/**
 * Tensor types by name, with ggml's numbers and block sizes (ggml 0.25.1, `ggml.h` and `ggml-common.h`), followed by
 * the types that only safetensors has. The table has more types than the networks accept, so that every file's sizes
 * can be checked.
 */
export const TENSOR_TYPES = {
  F32: { id: 0, blockSize: 1, blockBytes: 4 },
  F16: { id: 1, blockSize: 1, blockBytes: 2 },
  Q4_0: { id: 2, blockSize: 32, blockBytes: 18 },
  Q4_1: { id: 3, blockSize: 32, blockBytes: 20 },
  Q5_0: { id: 6, blockSize: 32, blockBytes: 22 },
  Q5_1: { id: 7, blockSize: 32, blockBytes: 24 },
  Q8_0: { id: 8, blockSize: 32, blockBytes: 34 },
  Q8_1: { id: 9, blockSize: 32, blockBytes: 36 },
  Q2_K: { id: 10, blockSize: 256, blockBytes: 84 },
  Q3_K: { id: 11, blockSize: 256, blockBytes: 110 },
  Q4_K: { id: 12, blockSize: 256, blockBytes: 144 },
  Q5_K: { id: 13, blockSize: 256, blockBytes: 176 },
  Q6_K: { id: 14, blockSize: 256, blockBytes: 210 },
  Q8_K: { id: 15, blockSize: 256, blockBytes: 292 },
  IQ2_XXS: { id: 16, blockSize: 256, blockBytes: 66 },
  IQ2_XS: { id: 17, blockSize: 256, blockBytes: 74 },
  IQ3_XXS: { id: 18, blockSize: 256, blockBytes: 98 },
  IQ1_S: { id: 19, blockSize: 256, blockBytes: 50 },
  IQ4_NL: { id: 20, blockSize: 32, blockBytes: 18 },
  IQ3_S: { id: 21, blockSize: 256, blockBytes: 110 },
  IQ2_S: { id: 22, blockSize: 256, blockBytes: 82 },
  IQ4_XS: { id: 23, blockSize: 256, blockBytes: 136 },
  I8: { id: 24, blockSize: 1, blockBytes: 1 },
  I16: { id: 25, blockSize: 1, blockBytes: 2 },
  I32: { id: 26, blockSize: 1, blockBytes: 4 },
  I64: { id: 27, blockSize: 1, blockBytes: 8 },
  F64: { id: 28, blockSize: 1, blockBytes: 8 },
  IQ1_M: { id: 29, blockSize: 256, blockBytes: 56 },
  BF16: { id: 30, blockSize: 1, blockBytes: 2 },
  TQ1_0: { id: 34, blockSize: 256, blockBytes: 54 },
  TQ2_0: { id: 35, blockSize: 256, blockBytes: 66 },
  MXFP4: { id: 39, blockSize: 32, blockBytes: 17 },
  NVFP4: { id: 40, blockSize: 64, blockBytes: 36 },
  Q1_0: { id: 41, blockSize: 128, blockBytes: 18 },
  Q2_0: { id: 42, blockSize: 64, blockBytes: 18 },

  BOOL: { id: -1, blockSize: 1, blockBytes: 1 },
  U8: { id: -1, blockSize: 1, blockBytes: 1 },
  U16: { id: -1, blockSize: 1, blockBytes: 2 },
  U32: { id: -1, blockSize: 1, blockBytes: 4 },
  U64: { id: -1, blockSize: 1, blockBytes: 8 },
  C64: { id: -1, blockSize: 1, blockBytes: 8 },
  F8_E4M3: { id: -1, blockSize: 1, blockBytes: 1 },
  F8_E5M2: { id: -1, blockSize: 1, blockBytes: 1 },
  F8_E8M0: { id: -1, blockSize: 1, blockBytes: 1 },
  F6_E2M3: { id: -1, blockSize: 4, blockBytes: 3 },
  F6_E3M2: { id: -1, blockSize: 4, blockBytes: 3 },
  F4: { id: -1, blockSize: 2, blockBytes: 1 },
} as const satisfies Record<string, TensorTypeInfo>

export type TensorType = keyof typeof TENSOR_TYPES

/** The types that a safetensors file can hold. Their names are the same in that format and here. */
export const SAFETENSORS_TYPES: ReadonlySet<string> = new Set([
  'F64',
  'F32',
  'F16',
  'BF16',
  'I64',
  'I32',
  'I16',
  'I8',
  'U64',
  'U32',
  'U16',
  'U8',
  'BOOL',
  'C64',
  'F8_E4M3',
  'F8_E5M2',
  'F8_E8M0',
  'F6_E2M3',
  'F6_E3M2',
  'F4',
] satisfies TensorType[])

/** The number of elements; 1 for a scalar (`[]`). `NaN` if it is not a safe integer. */
export function elementCount(shape: readonly number[]): number {
  if (shape.includes(0)) return 0
  const count = shape.reduce((product, dimension) => product * dimension, 1)
  return Number.isSafeInteger(count) ? count : NaN
}

/**
 * The size of a tensor in bytes. `shape` is row-major as torch prints it, so the last dimension is the row that is
 * divided into blocks. `NaN` if the row is not a whole number of blocks or the size is not a safe integer.
 */
export function tensorBytes(type: TensorType, shape: readonly number[]): number {
  const { blockSize, blockBytes } = TENSOR_TYPES[type]
  if ((shape.at(-1) ?? 1) % blockSize !== 0) return NaN
  const bytes = (elementCount(shape) / blockSize) * blockBytes
  return Number.isSafeInteger(bytes) ? bytes : NaN
}
