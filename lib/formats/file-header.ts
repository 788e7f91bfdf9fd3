import type { TensorType } from './tensor-types.js'

export interface TensorSource {
  name: string
  type: TensorType
  /** row-major, as torch prints it */
  shape: number[]
  /** all bytes of the tensor, at once or in pieces */
  data: Uint8Array | (() => Iterable<Uint8Array> | AsyncIterable<Uint8Array>)
}

/** The bytes before the data, and the alignment of every tensor (counted from the end of `header`). */
export interface FileHeader {
  header: Buffer
  alignment: number
}
