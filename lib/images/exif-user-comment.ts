import { FluxError } from '../errors.js'

/**
 * Space for the text next to the other EXIF data: libvips writes at most 65,533 bytes, which is what fits into a JPEG
 * segment.
 */
const MOST_BYTES = 65_000

/**
 * EXIF UserComment in the format that A1111 writes and its readers expect: `UNICODE\0`, then UTF-16, big-endian. An
 * ASCII text that is too long for this is written in ASCII, one byte per character, which readers support as well.
 * libvips writes only ASCII there and replaces every other character. Therefore sharp receives as many ASCII characters
 * as the text has bytes, and the text replaces them in the encoded file. JPEG, WebP and AVIF all store EXIF data
 * unchanged, without a checksum.
 *
 * Source: AUTOMATIC1111/stable-diffusion-webui `modules/images.py` (`save_image_with_geninfo`); Exif 2.32, section
 * 4.6.5.
 */
export function reserveUserComment(text: string): { IFD2: { UserComment: string } } {
  return { IFD2: { UserComment: placeholder(encoded(text).bytes) } }
}

/** Writes `text` into the space that {@link reserveUserComment} reserved, in place. */
export function writeUserComment(file: Buffer, text: string): Buffer {
  const { charset, bytes } = encoded(text)
  const at = file.indexOf(`ASCII\0\0\0${placeholder(bytes)}`, 'latin1')
  if (at < 0)
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      'sharp wrote no EXIF UserComment: install sharp 0.35, or leave parameters out',
    )
  file.write(charset, at, 'latin1')
  bytes.copy(file, at + 8)
  return file
}

/** @throws {FluxError} FLUX_BAD_OPTION for a text that is too long */
export function checkUserComment(text: string, format: string): void {
  if (encoded(text).bytes.length <= MOST_BYTES) return
  const most = `expected at most ${MOST_BYTES} in ASCII, ${MOST_BYTES / 2} otherwise, in the format ${format}`
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `parameters (the prompt and how the image is made) has ${text.length} characters; ${most}: shorten the prompt, or choose the format png`,
  )
}

function encoded(text: string): { charset: string; bytes: Buffer } {
  if (2 * text.length > MOST_BYTES && /^[\0-\x7f]*$/.test(text))
    return { charset: 'ASCII\0\0\0', bytes: Buffer.from(text, 'latin1') }
  return { charset: 'UNICODE\0', bytes: Buffer.from(text, 'utf16le').swap16() }
}

function placeholder({ length }: Buffer): string {
  return '*'.repeat(length)
}

/**
 * Reads a UserComment. UTF-16 is big-endian as A1111 and ggflux write it, except where zeros are in the other half of
 * the bytes.
 */
export function readUserComment(comment: Uint8Array): string {
  const charset = Buffer.from(comment.subarray(0, 8)).toString('latin1')
  const text = Buffer.from(comment.subarray(8))
  if (charset !== 'UNICODE\0') return untilNul(text.toString('utf8'))
  const zeros = [0, 0]
  for (let i = 0; i < text.length; i++) if (text[i] === 0) zeros[i % 2]! += 1
  const even = text.subarray(0, text.length & ~1)
  return untilNul((zeros[1]! > zeros[0]! ? even : even.swap16()).toString('utf16le'))
}

function untilNul(text: string): string {
  return text.split('\0', 1)[0]!
}
