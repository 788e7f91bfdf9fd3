import type { FileVersion } from './byte-source.js'
import type { TensorType } from './tensor-types.js'

export interface TensorInfo {
  name: string
  type: TensorType
  /** row-major, as torch prints it; `[]` is a scalar */
  shape: number[]
  /** bytes from the beginning of the file */
  offset: number
  byteLength: number
  /** index of the part that contains it @default 0 */
  file?: number
}

/**
 * 64-bit integers are numbers if a double holds them exactly, otherwise bigints. Arrays of numbers or booleans are
 * typed arrays.
 */
export type MetadataValue =
  | string
  | number
  | bigint
  | boolean
  | MetadataValue[]
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array

/** The checked header of a model file. Sizes, types and offsets agree with each other and with the file's length. */
export interface ModelFile {
  path: string
  /** the files of a split model */
  parts?: string[]
  format: 'gguf' | 'safetensors'
  /** in bytes */
  size: number
  metadata: Map<string, MetadataValue>
  /** the versions of the files on disk when their headers were read */
  read?: FileVersion[]
  /** in the order of the file's header */
  tensors: Map<string, TensorInfo>
}
