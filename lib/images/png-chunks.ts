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

/**
 * Walks the chunks of a PNG file up to IEND, without copying and without checking checksums. What follows IEND is
 * ignored. Ends early where the file does.
 * Source: PNG specification, third edition, section 5.3.
 */
export function* pngChunks(file: Uint8Array): Generator<PngChunk> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  for (let begin = SIGNATURE_LENGTH; begin + FRAME_LENGTH <= file.length; ) {
    const end = begin + FRAME_LENGTH + view.getUint32(begin)
    if (end > file.length) return
    const type = String.fromCharCode(...file.subarray(begin + 4, begin + 8))
    yield { type, data: file.subarray(begin + 8, end - 4), begin, end }
    if (type === 'IEND') return
    begin = end
  }
}
