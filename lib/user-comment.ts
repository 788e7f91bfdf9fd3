import { FluxError } from './errors.js'

/**
 * EXIF UserComment in UTF-16, which A1111 and its readers expect (`UNICODE\0`, then big-endian text). libvips only writes ASCII there and
 * replaces every other character, so sharp is given as many ASCII characters as the text has bytes, and the encoded file gets the text in
 * their place. JPEG, WebP and AVIF all store EXIF data as it is, without a checksum.
 *
 * Source: AUTOMATIC1111/stable-diffusion-webui `modules/images.py` (`save_image_with_geninfo`); Exif 2.32, section 4.6.5.
 */
export function reserveUserComment(text: string, format: string): { IFD2: { UserComment: string } } {
  // a JPEG segment ends at 65,535 bytes, with the rest of the EXIF data in it
  if (format === 'jpeg' && text.length > 32_000) {
    throw new FluxError('FLUX_BAD_OPTION', `parameters has ${text.length} characters, a JPEG holds 32000: shorten it or choose png or webp`)
  }
  return { IFD2: { UserComment: placeholder(text) } }
}

/** Puts `text` where {@link reserveUserComment} made room, in place. */
export function writeUserComment(file: Buffer, text: string): Buffer {
  const at = file.indexOf(`ASCII\0\0\0${placeholder(text)}`, 'latin1')
  if (at < 0) throw new FluxError('FLUX_UNSUPPORTED', 'sharp wrote no EXIF UserComment: install sharp 0.35, or leave parameters out')
  file.write('UNICODE\0', at, 'latin1')
  Buffer.from(text, 'utf16le').swap16().copy(file, at + 8)
  return file
}

function placeholder(text: string): string {
  return '*'.repeat(text.length * 2)
}
