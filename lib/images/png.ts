import { crc32 } from 'node:zlib'
import { PNG } from 'pngjs'

export interface PngInput {
  /** [height, width, 3] */
  rgb: Uint8Array<ArrayBuffer>
  width: number
  height: number
  /** zlib level */
  compression: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
  /** stored in a text chunk with the keyword `parameters` */
  parameters?: string | undefined
}

/** Signature (8 bytes) and IHDR chunk (25 bytes) */
const HEADER_LENGTH = 33

const RGB = 2
const ADAPTIVE_FILTER = -1
const Z_FILTERED = 1

/** Encodes a PNG file. The text comes before the pixels, for readers that stop there. */
export function encodePng({ rgb, width, height, compression, parameters }: PngInput): Uint8Array<ArrayBuffer> {
  const image = Object.assign(new PNG(), {
    width,
    height,
    data: Buffer.from(rgb.buffer, rgb.byteOffset, rgb.byteLength),
  })
  const png = PNG.sync.write(image, {
    colorType: RGB,
    inputColorType: RGB,
    inputHasAlpha: false,
    filterType: ADAPTIVE_FILTER,
    deflateLevel: compression,
    deflateStrategy: Z_FILTERED,
  })
  if (!parameters) return new Uint8Array(png)
  return new Uint8Array(
    Buffer.concat([png.subarray(0, HEADER_LENGTH), textChunk('parameters', parameters), png.subarray(HEADER_LENGTH)]),
  )
}

/**
 * Uses tEXt for ASCII, which every reader understands, and iTXt (UTF-8, not compressed) for other text, as Pillow and
 * therefore A1111 and ComfyUI read it. tEXt could hold Latin-1, but readers disagree: libvips decodes it as UTF-8. NUL
 * is not allowed in the text and is left out.
 * Source: PNG specification, third edition, sections 11.3.3.2 and 11.3.3.4.
 */
function textChunk(keyword: string, text: string): Buffer {
  const clean = text.replaceAll('\0', '')
  return /^[\x01-\x7f]*$/.test(clean)
    ? chunk('tEXt', Buffer.from(`${keyword}\0${clean}`, 'latin1'))
    : // keyword, compression flag and method, language tag, translated keyword, text
      chunk('iTXt', Buffer.from(`${keyword}\0\0\0\0\0${clean}`, 'utf8'))
}

/** length, type, data, and the checksum of type and data */
export function chunk(type: string, data: Buffer): Buffer {
  const bytes = Buffer.alloc(data.length + 12)
  bytes.writeUInt32BE(data.length, 0)
  bytes.write(type, 4, 'latin1')
  data.copy(bytes, 8)
  bytes.writeUInt32BE(crc32(bytes.subarray(4, -4)), data.length + 8)
  return bytes
}
