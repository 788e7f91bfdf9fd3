import { FluxError } from '../errors.js'

/** Bytes that EXIF data hold beside the rest of it: libvips writes none beyond 65,533, as much as fits into a JPEG segment. */
const MOST_BYTES = 65_000

/**
 * EXIF UserComment as A1111 writes and its readers expect it: `UNICODE\0`, then UTF-16, big-endian. A text in ASCII that is too long for that is
 * written in ASCII, one byte a character, which readers know as well. libvips only writes ASCII there and replaces every other character, so sharp
 * is given as many ASCII characters as the text has bytes, and the encoded file gets the text in their place. JPEG, WebP and AVIF all store EXIF
 * data as it is, without a checksum.
 *
 * Source: AUTOMATIC1111/stable-diffusion-webui `modules/images.py` (`save_image_with_geninfo`); Exif 2.32, section 4.6.5.
 */
export function reserveUserComment(text: string): { IFD2: { UserComment: string } } {
  return { IFD2: { UserComment: placeholder(encoded(text).bytes) } }
}

/** Puts `text` where {@link reserveUserComment} made room, in place. */
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
    `parameters (the prompt and how the picture is made) has ${text.length} characters; ${most}: shorten the prompt, or choose the format png`,
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
