import { FluxError } from '../errors.js'

/** Signature (8 bytes) */
const SIGNATURE_LENGTH = 8
/** length and type before the data, checksum after it */
const FRAME_LENGTH = 12

export interface PngChunk {
  type: string
  data: Uint8Array
  /** where the chunk is in the file, with its length, type and checksum */
  begin: number
  end: number
}

/** more than any encoder writes: 256 MiB in pieces of 4 KiB are 65,536 */
const MOST_CHUNKS = 100_000

/**
 * Walks the chunks of a PNG file up to IEND, without copying and without checking checksums. What follows IEND is
 * ignored. Ends early where the file does.
 * Source: PNG specification, third edition, section 5.3.
 *
 * @throws {FluxError} FLUX_UNSUPPORTED for more than 100,000 chunks, which would only hold up the program
 */
export function* pngChunks(file: Uint8Array): Generator<PngChunk> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  for (let begin = SIGNATURE_LENGTH, count = 0; begin + FRAME_LENGTH <= file.length; count++) {
    if (count === MOST_CHUNKS)
      throw new FluxError('FLUX_UNSUPPORTED', `image has more than ${MOST_CHUNKS} chunks: save it again`)
    const end = begin + FRAME_LENGTH + view.getUint32(begin)
    if (end > file.length) return
    const type = String.fromCharCode(...file.subarray(begin + 4, begin + 8))
    yield { type, data: file.subarray(begin + 8, end - 4), begin, end }
    if (type === 'IEND') return
    begin = end
  }
}
