/** Tags of the fields that are read. Source: Exif 2.32, sections 4.6.4 and 4.6.5. */
export const EXIF_TAG = { orientation: 0x0112, exifIfd: 0x8769, userComment: 0x9286 } as const

/** bytes of one value by the number of its type; types that are not here are skipped */
const TYPE_LENGTH: Record<number, number> = { 1: 1, 2: 1, 3: 2, 4: 4, 7: 1 }
const SHORT = 3
const LONG = 4

/** A directory has fewer fields in practice; hostile files are cut here. */
const MOST_FIELDS = 512

export interface ExifFields {
  bytes(tag: number): Uint8Array | undefined
  number(tag: number): number | undefined
  /** of the fields that hold text, up to the first NUL */
  texts(): string[]
}

/**
 * Reads the fields of the first directory and of the Exif directory. Damaged parts are left out; nothing throws.
 *
 * @param exif a TIFF structure, with or without the `Exif\0\0` in front
 */
export function readExif(exif: Uint8Array): ExifFields {
  const tiff = startsWith(exif, 'Exif\0\0') ? exif.subarray(6) : exif
  const littleEndian = startsWith(tiff, 'II')
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength)
  const fields = new Map<number, { type: number; bytes: Uint8Array }>()

  const number = (tag: number): number | undefined => {
    const field = fields.get(tag)
    if (!field) return undefined
    const value = new DataView(field.bytes.buffer, field.bytes.byteOffset, field.bytes.byteLength)
    if (field.type === SHORT && value.byteLength >= 2) return value.getUint16(0, littleEndian)
    if (field.type === LONG && value.byteLength >= 4) return value.getUint32(0, littleEndian)
    return undefined
  }
  const readDirectory = (at: number | undefined): void => {
    if (at === undefined || at + 2 > view.byteLength) return
    const count = Math.min(view.getUint16(at, littleEndian), MOST_FIELDS)
    for (let i = 0, entry = at + 2; i < count && entry + 12 <= view.byteLength; i++, entry += 12) {
      const tag = view.getUint16(entry, littleEndian)
      const type = view.getUint16(entry + 2, littleEndian)
      const length = (TYPE_LENGTH[type] ?? 0) * view.getUint32(entry + 4, littleEndian)
      // up to four bytes are stored in the entry itself
      const begin = length > 4 ? view.getUint32(entry + 8, littleEndian) : entry + 8
      if (length > 0 && begin + length <= view.byteLength && !fields.has(tag))
        fields.set(tag, { type, bytes: tiff.subarray(begin, begin + length) })
    }
  }

  if ((littleEndian || startsWith(tiff, 'MM')) && view.byteLength >= 8) {
    readDirectory(view.getUint32(4, littleEndian))
    readDirectory(number(EXIF_TAG.exifIfd))
  }
  return {
    bytes: (tag) => fields.get(tag)?.bytes,
    number,
    texts: () =>
      [...fields.values()]
        .filter(({ type }) => type === 2)
        .map(({ bytes }) => Buffer.from(bytes).toString('utf8').split('\0', 1)[0]!),
  }
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  return Buffer.from(bytes.subarray(0, text.length)).toString('latin1') === text
}
