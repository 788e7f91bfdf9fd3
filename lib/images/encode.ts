import { FluxError } from '../errors.js'
import { inBackground } from './background.js'
import { requireOneOf, requireWhole } from '../options/checks.js'
import { loadSharp } from './load-sharp.js'
import { requireLength } from './pixels.js'
import type { PngInput } from './png.js'
import { checkUserComment, reserveUserComment, writeUserComment } from './exif-user-comment.js'

/** `raw` is plain RGB bytes; JPEG, WebP and AVIF need the optional package sharp. */
export type ImageFormat = 'png' | 'jpeg' | 'webp' | 'avif' | 'raw'

/** quality if the caller does not give one, for the formats that have this option */
const DEFAULT_QUALITY = { jpeg: 90, webp: 90, avif: 60 }

const FORMATS: readonly string[] = ['png', ...Object.keys(DEFAULT_QUALITY), 'raw']

export interface EncodeOptions {
  /** @default 'png' */
  format?: ImageFormat
  /** 1 to 100; JPEG, WebP and AVIF only. @default 90, AVIF 60 */
  quality?: number
  /** zlib level, 0 (none) to 9; PNG only. @default 3 */
  compression?: PngInput['compression']
  /**
   * the generation parameters, see `formatParameters`. A PNG stores them in the text chunk `parameters` (tEXt, or iTXt
   * if the text is not ASCII). JPEG, WebP and AVIF store them as EXIF UserComment (UTF-16; an ASCII text of more than
   * 32,500 characters in ASCII, up to 65,000). `raw` does not store them
   */
  parameters?: string
}

/**
 * Encodes RGB bytes as an image file, off the main thread.
 *
 * @param rgb [height, width, 3]; copied, so the caller may keep using it
 * @throws FluxError FLUX_BAD_SHAPE; FLUX_BAD_OPTION for an unknown format, or an option that is out of range or that
 *   the format does not have; FLUX_UNSUPPORTED when the format needs sharp and it is not installed
 */
export async function encodeImage(
  rgb: Uint8Array,
  width: number,
  height: number,
  options: EncodeOptions = {},
): Promise<Buffer> {
  const { format = 'png', quality, compression, parameters } = options
  requireLength(rgb.length, width, height)
  checkEncodeOptions(options)
  switch (format) {
    case 'raw':
      return Buffer.from(rgb)
    case 'png': {
      const copy = new Uint8Array(rgb)
      return Buffer.from(
        (
          await inBackground(
            'encodePng',
            [{ rgb: copy, width, height, compression: compression ?? 3, parameters }],
            [copy.buffer],
          )
        ).buffer,
      )
    }
    default:
      return encodeWithSharp(rgb, width, height, format, quality ?? DEFAULT_QUALITY[format], parameters)
  }
}

/** Rejects wrong options as {@link encodeImage} does, for callers with long work before the encoding. */
export function checkEncodeOptions({ format = 'png', quality, compression, parameters = '' }: EncodeOptions): void {
  requireOneOf('format', format, FORMATS)
  if (quality !== undefined) requireLevel('quality', quality, 1, 100, format in DEFAULT_QUALITY, format)
  if (compression !== undefined) requireLevel('compression', compression, 0, 9, format === 'png', format)
  if (format in DEFAULT_QUALITY) checkUserComment(parameters, format)
}

/** Loads sharp if the format needs it. @throws FluxError FLUX_UNSUPPORTED when it is not installed */
export async function loadEncoder(format: ImageFormat): Promise<void> {
  if (format in DEFAULT_QUALITY) await loadSharpFor(format)
}

const loadSharpFor = (format: ImageFormat) => loadSharp(`format '${format}'`, 'choose the format png')

async function encodeWithSharp(
  rgb: Uint8Array,
  width: number,
  height: number,
  format: keyof typeof DEFAULT_QUALITY,
  quality: number,
  parameters: string | undefined,
): Promise<Buffer> {
  const sharp = await loadSharpFor(format)
  // sharp reads the pixels later, in its own thread, so it gets a copy
  const encoder = sharp(Buffer.from(rgb), { raw: { width, height, channels: 3 } }).toFormat(format, { quality })
  if (!parameters) return encoder.toBuffer()
  return writeUserComment(await encoder.withExif(reserveUserComment(parameters)).toBuffer(), parameters)
}

function requireLevel(
  name: string,
  value: number,
  least: number,
  most: number,
  applies: boolean,
  format: string,
): void {
  requireWhole(name, value, least, most)
  if (!applies)
    throw new FluxError('FLUX_BAD_OPTION', `${name} is ${value}, but the format ${format} has no ${name}: leave it out`)
}
