import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { FluxError } from '../errors.js'
import { badOption, requireWhole } from '../options/checks.js'
import type { ImageSource } from './rgb-image.js'

const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)

/** largest image file that is read */
const MOST_BYTES = 256 * 2 ** 20

export type FileType = 'PNG' | 'JPEG' | 'WebP' | 'GIF' | 'AVIF' | 'HEIC'

/** The bytes of an image file, and what they are. The name of the file does not matter. */
export interface ImageFile {
  bytes: Uint8Array<ArrayBuffer>
  type: FileType
  /** for messages: the option, and the path if there is one */
  what: string
}

/** Reads the bytes of an image file, which belong to the caller of this function afterwards. */
export async function readImageFile(name: string, source: string | Uint8Array): Promise<ImageFile> {
  const what = describeSource(name, source)
  const bytes = typeof source === 'string' ? await readBytes(what, source) : copied(what, source)
  if (bytes.length === 0) throw new FluxError('FLUX_BAD_FILE', `${what} is empty: give another file`)
  return { bytes, type: requireType(what, bytes), what }
}

/** `image 'photo.jpg'`, or `image` for what has no path */
export function describeSource(name: string, source: ImageSource): string {
  return typeof source === 'string' ? `${name} ${JSON.stringify(source)}` : name
}

export function isFileSource(name: string, source: ImageSource): source is string | Uint8Array {
  if (typeof source === 'string' && source !== '') return true
  if (source instanceof Uint8Array) return true
  if (typeof source === 'object' && source !== null && 'data' in source) return false
  throw badOption(name, source, 'a path, the bytes of an image file, or { data, width, height }')
}

async function readBytes(what: string, path: string): Promise<Uint8Array<ArrayBuffer>> {
  const failure = (cause: Error & { code?: string }) =>
    new FluxError(
      cause.code === 'ENOENT' || cause.code === 'ENOTDIR' ? 'FLUX_NOT_FOUND' : 'FLUX_BAD_FILE',
      `${what} cannot be read (${cause.message}): give the path of an image file`,
      { cause },
    )
  // without O_NONBLOCK a named pipe would be waited for
  const file = await open(path, OPEN_FLAGS).catch((cause) => Promise.reject(failure(cause)))
  try {
    const entry = await file.stat()
    if (!entry.isFile()) throw new FluxError('FLUX_BAD_FILE', `${what} is not a file: give the path of an image file`)
    requireSize(what, entry.size)
    return new Uint8Array(await file.readFile().catch((cause) => Promise.reject(failure(cause))))
  } finally {
    await file.close()
  }
}

function copied(what: string, source: Uint8Array): Uint8Array<ArrayBuffer> {
  requireSize(what, source.length)
  return new Uint8Array(source)
}

function requireSize(what: string, size: number): void {
  if (size > MOST_BYTES)
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${what} has ${size} bytes: expected at most ${MOST_BYTES}; save the image smaller`,
    )
}

/** @throws FluxError FLUX_UNSUPPORTED for more pixels than `most` */
export function requireFewPixels(what: string, width: number, height: number, most: number): void {
  if (width * height > most)
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${what} is ${width} x ${height}: expected at most ${most} pixels (maxPixels); save the image smaller`,
    )
}

/** limit of decoded pixels: 8192 x 8192, which takes 256 MiB as RGBA */
export const DEFAULT_MOST_PIXELS = 2 ** 26

export function requireMaxPixels(maxPixels = DEFAULT_MOST_PIXELS): number {
  return requireWhole('maxPixels', maxPixels, 1, 2 ** 28)
}

function requireType(what: string, bytes: Uint8Array): FileType {
  const type = fileType(bytes)
  if (type) return type
  const begin = JSON.stringify(Buffer.from(bytes.subarray(0, 8)).toString('latin1'))
  throw new FluxError(
    'FLUX_BAD_FILE',
    `${what} is not an image file that ggflux can read (it begins with ${begin}): give a PNG, JPEG, WebP, AVIF, HEIC or GIF file`,
  )
}

const HEIC_BRANDS = ['heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'mif1', 'msf1']

function fileType(bytes: Uint8Array): FileType | undefined {
  const text = Buffer.from(bytes.subarray(0, 16)).toString('latin1')
  if (text.startsWith('\x89PNG\r\n\x1a\n')) return 'PNG'
  if (text.startsWith('\xff\xd8\xff')) return 'JPEG'
  if (text.startsWith('GIF87a') || text.startsWith('GIF89a')) return 'GIF'
  if (text.startsWith('RIFF') && text.slice(8, 12) === 'WEBP') return 'WebP'
  if (text.slice(4, 8) !== 'ftyp') return undefined
  const brand = text.slice(8, 12)
  if (brand === 'avif' || brand === 'avis') return 'AVIF'
  return HEIC_BRANDS.includes(brand) ? 'HEIC' : undefined
}
