import { FluxError } from '../errors.js'
import type { NativePiece } from '../native/addon.js'
import type { TensorInfo } from '../formats/model-file.js'

/** A tensor of a network and the location of its rows: one tensor of the file, or several tensors combined. */
export interface PlacedTensor extends Pick<TensorInfo, 'type' | 'shape'> {
  /** its name in the file; for several tensors the name of the first, for messages */
  name: string
  pieces: NativePiece[]
}

export function placed({ name, type, shape, file = 0, offset, byteLength }: TensorInfo): PlacedTensor {
  return { name, type, shape, pieces: [{ file, offset, bytes: byteLength }] }
}

/**
 * Part `index` of `count` equal parts of a tensor's rows.
 *
 * @throws {FluxError} FLUX_BAD_FILE if the rows cannot be divided equally
 */
export function rowsOf({ name, type, shape, pieces }: PlacedTensor, index: number, count: number): PlacedTensor {
  const [rows, ...row] = shape
  const [piece] = pieces
  if (pieces.length !== 1 || !piece || rows === undefined || rows % count !== 0) {
    throw new FluxError(
      'FLUX_BAD_FILE',
      `tensor ${name} has shape [${shape.join(', ')}], which makes no ${count} parts. Use another copy of the model`,
    )
  }
  const bytes = piece.bytes / count
  return {
    name,
    type,
    shape: [rows / count, ...row],
    pieces: [{ ...piece, offset: piece.offset + index * bytes, bytes }],
  }
}

/**
 * Stacks tensors vertically. Nothing is requantised: each row stays as it is in its file.
 *
 * @throws {FluxError} FLUX_BAD_FILE if the rows have different lengths; FLUX_UNSUPPORTED if they have different types
 */
export function joined(tensors: readonly PlacedTensor[]): PlacedTensor {
  const [first, ...others] = tensors as [PlacedTensor, ...PlacedTensor[]]
  const [, ...row] = first.shape
  for (const { name, type, shape } of others) {
    const [, ...other] = shape
    if (shape.length !== first.shape.length || other.some((dimension, i) => dimension !== row[i])) {
      const shapes = `[${first.shape.join(', ')}] and [${shape.join(', ')}]`
      throw new FluxError(
        'FLUX_BAD_FILE',
        `tensors ${first.name} and ${name} are parts of one, but have the shapes ${shapes}. Use another copy of the model`,
      )
    }
    if (type !== first.type) {
      const types = `${first.type} and ${type}`
      throw new FluxError(
        'FLUX_UNSUPPORTED',
        `tensors ${first.name} and ${name} are parts of one, but have the types ${types}. Use a version in one type`,
      )
    }
  }
  const rows = tensors.reduce((sum, { shape }) => sum + (shape[0] ?? 1), 0)
  return { name: first.name, type: first.type, shape: [rows, ...row], pieces: tensors.flatMap(({ pieces }) => pieces) }
}
