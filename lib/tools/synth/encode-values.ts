import { FluxError } from '../../errors.js'
import type { NativeAddon } from '../../native/addon.js'
import { toBFloat16, toFloat16 } from '../../formats/float16.js'
import { TENSOR_TYPES, type TensorType } from '../../formats/tensor-types.js'

/** ggml's quantiser: type number, values, row length in elements. */
export type Quantize = NativeAddon['quantize']

/**
 * Encodes `values` in a tensor type. F32, F16 and BF16 are encoded here, block types by `quantize`.
 *
 * @param rowLength elements; a whole number of the type's blocks
 * @throws {FluxError} FLUX_BAD_OPTION for a block type without `quantize`
 */
export async function encodeValues(
  values: Float32Array,
  type: TensorType,
  rowLength: number,
  quantize?: Quantize,
): Promise<Uint8Array> {
  if (type === 'F32') return bytesOf(values)
  if (type === 'F16') return bytesOf(toFloat16(values))
  if (type === 'BF16') return bytesOf(toBFloat16(values))
  if (!quantize) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `type is ${type}, which needs the native quantiser: give \`quantize\`, or use F32, F16 or BF16`,
    )
  }
  return quantize(TENSOR_TYPES[type].id, values, rowLength)
}

function bytesOf(array: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}
