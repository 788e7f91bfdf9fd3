import { FluxError } from '../errors.js'
import { fromFloat16 } from './half.js'
import type { TensorInfo } from './model-file.js'
import { withSource } from './source.js'
import { elementCount } from './types.js'

/**
 * The one number of a tensor.
 *
 * @throws {FluxError} FLUX_BAD_FILE when it has more, FLUX_UNSUPPORTED for other types than F32, F16, BF16 and F64
 */
export function readScalar(path: string, { name, type, shape, offset, byteLength }: TensorInfo): Promise<number> {
  if (elementCount(shape) !== 1) throw new FluxError('FLUX_BAD_FILE', `${path}: tensor ${name} has shape [${shape.join(', ')}]; one number is expected`)
  return withSource(path, async (source) => {
    const bytes = await source.read(offset, byteLength)
    if (type === 'F32') return bytes.readFloatLE()
    if (type === 'F64') return bytes.readDoubleLE()
    if (type === 'BF16') return Buffer.from([0, 0, ...bytes]).readFloatLE()
    if (type === 'F16') return fromFloat16(bytes.readUInt16LE())
    throw new FluxError('FLUX_UNSUPPORTED', `${path}: tensor ${name} has type ${type}; a single number may be F32, F16, BF16 or F64`)
  })
}
