import { FluxError } from '../errors.js'
import { fromFloat16 } from './float16.js'
import type { TensorInfo } from './model-file.js'
import { withSource } from './byte-source.js'
import { elementCount } from './tensor-types.js'

/**
 * Reads the values of tensors with one element each, by tensor name. The file is opened once.
 *
 * @throws {FluxError} FLUX_BAD_FILE if a tensor has more elements, FLUX_UNSUPPORTED for types other than F32, F16,
 *   BF16, F64, I32 and I64
 */
export async function readScalars(path: string, tensors: readonly TensorInfo[]): Promise<Map<string, number>> {
  const values = new Map<string, number>()
  if (tensors.length === 0) return values
  await withSource(path, async (source) => {
    for (const tensor of tensors) {
      const { name, shape, offset, byteLength } = tensor
      if (elementCount(shape) !== 1)
        throw new FluxError(
          'FLUX_BAD_FILE',
          `${path}: tensor ${name} has shape [${shape.join(', ')}]; one number is expected`,
        )
      values.set(name, numberOf(path, tensor, await source.read(offset, byteLength)))
    }
  })
  return values
}

function numberOf(path: string, { name, type }: TensorInfo, bytes: Buffer): number {
  if (type === 'F32') return bytes.readFloatLE()
  if (type === 'F64') return bytes.readDoubleLE()
  if (type === 'BF16') return Buffer.from([0, 0, ...bytes]).readFloatLE()
  if (type === 'F16') return fromFloat16(bytes.readUInt16LE())
  if (type === 'I32') return bytes.readInt32LE()
  if (type === 'I64') return Number(bytes.readBigInt64LE())
  throw new FluxError(
    'FLUX_UNSUPPORTED',
    `${path}: tensor ${name} has type ${type}; a single number may be F32, F16, BF16, F64, I32 or I64`,
  )
}
