import { FluxError } from '../errors.js'
import type { TensorInfo } from './model-file.js'

/** The largest networks have a few thousand. */
export const MAX_TENSORS = 65536
export const MAX_NAME = 512

/** Checks that every tensor is inside the file and that no two overlap. @throws {FluxError} FLUX_BAD_FILE */
export function checkPlaces(path: string, size: number, tensors: Iterable<TensorInfo>): void {
  const placed = [...tensors].filter((tensor) => tensor.byteLength > 0).sort((a, b) => a.offset - b.offset)
  let previous: TensorInfo | undefined
  let end = 0
  for (const tensor of placed) {
    if (previous && tensor.offset < end) {
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${path}: tensors ${previous.name} and ${tensor.name} overlap. The file is damaged: download it again`,
      )
    }
    previous = tensor
    end = tensor.offset + tensor.byteLength
  }
  if (previous && end > size) {
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${path}: the file has ${size} bytes, but tensor ${previous.name} ends at byte ${end}. The download is incomplete: fetch the rest`,
    )
  }
}

/** Shortens a name or value to one line, for a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
}
