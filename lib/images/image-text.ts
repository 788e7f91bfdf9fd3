import { inflateSync } from 'node:zlib'
import { FluxError } from '../errors.js'
import { readUserComment } from './exif-user-comment.js'
import { EXIF_TAG, readExif } from './exif.js'
import type { ImageFile } from './image-file.js'
import { loadSharp } from './load-sharp.js'
import { pngChunks, type PngChunk } from './png-chunks.js'

/** limit of the text of a file, in bytes */
const MOST_TEXT = 16 * 2 ** 20

/** the EXIF user comment in the result of {@link imageTexts} */
export const USER_COMMENT = 'UserComment'

/**
 * Returns the texts in an image file by keyword: text chunks of a PNG, EXIF UserComment, and what ComfyUI writes into
 * other EXIF fields as `keyword:text`. Damaged parts are left out.
 *
 * @throws FluxError FLUX_UNSUPPORTED for more than 16 MiB of text, or an AVIF or HEIC without sharp
 */
export async function imageTexts(file: ImageFile): Promise<Map<string, string>> {
  const texts = new Map<string, string>()
  let room = MOST_TEXT
  const add = (keyword: string, text: string) => {
    room -= text.length
    if (room < 0)
      throw new FluxError('FLUX_UNSUPPORTED', `${file.what} has more than ${MOST_TEXT} bytes of text: remove it`)
    if (!texts.has(keyword)) texts.set(keyword, text)
  }
  if (file.type === 'PNG') {
    for (const chunk of pngChunks(file.bytes)) {
      const entry = chunkText(chunk, file.what)
      if (entry) add(...entry)
    }
  }
  const exif = await exifOf(file)
  if (exif) {
    const fields = readExif(exif)
    const comment = fields.bytes(EXIF_TAG.userComment)
    if (comment) add(USER_COMMENT, readUserComment(comment))
    // Comfy-Org/ComfyUI comfy_api/latest/_ui.py: `prompt:…` in Model, `workflow:…` in Make
    for (const text of fields.texts()) {
      const [, keyword, value] = /^(\w{1,79}):([^]*)$/.exec(text) ?? []
      if (keyword && value) add(keyword, value)
    }
  }
  return texts
}

/** Source: PNG specification, third edition, section 11.3.3. */
function chunkText({ type, data }: PngChunk, what: string): [keyword: string, text: string] | undefined {
  if (type !== 'tEXt' && type !== 'zTXt' && type !== 'iTXt') return undefined
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  const end = bytes.indexOf(0)
  if (end < 1 || end > 79) return undefined
  const keyword = bytes.toString('latin1', 0, end)
  if (type === 'tEXt') return [keyword, bytes.toString('latin1', end + 1)]
  if (type === 'zTXt') return withText(keyword, inflated(bytes.subarray(end + 2), what)?.toString('latin1'))
  // language and translated keyword
  const text = bytes.indexOf(0, bytes.indexOf(0, end + 3) + 1) + 1
  if (text < end + 5) return undefined
  const isCompressed = bytes[end + 1] === 1
  const plain = isCompressed ? inflated(bytes.subarray(text), what) : bytes.subarray(text)
  return withText(keyword, plain?.toString('utf8'))
}

function withText(keyword: string, text: string | undefined): [string, string] | undefined {
  return text === undefined ? undefined : [keyword, text]
}

function inflated(data: Uint8Array, what: string): Buffer | undefined {
  try {
    return inflateSync(data, { maxOutputLength: MOST_TEXT })
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'ERR_BUFFER_TOO_LARGE') return undefined
    const message = `${what} has more than ${MOST_TEXT} bytes of compressed text: remove it`
    throw new FluxError('FLUX_UNSUPPORTED', message, { cause })
  }
}

async function exifOf({ bytes, type, what }: ImageFile): Promise<Uint8Array | undefined> {
  switch (type) {
    case 'PNG':
      return [...pngChunks(bytes)].find((chunk) => chunk.type === 'eXIf')?.data
    case 'JPEG':
      return exifOfJpeg(bytes)
    case 'WebP':
      return exifOfWebp(bytes)
    case 'GIF':
      return undefined
    default: {
      const sharp = await loadSharp(`the metadata of ${what} (${type})`, 'give a PNG, JPEG or WebP file')
      const { exif } = await sharp(bytes, { limitInputPixels: false })
        .metadata()
        .catch((cause: Error) => {
          throw new FluxError('FLUX_BAD_FILE', `${what} is damaged: give another file`, { cause })
        })
      return exif
    }
  }
}

const [APP1, START_OF_SCAN] = [0xe1, 0xda]

/** Walks the segments before the pixels. Source: ITU-T T.81, annex B; Exif 2.32, section 4.7.2. */
function exifOfJpeg(bytes: Uint8Array): Uint8Array | undefined {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1]!
    const length = bytes[at + 2]! * 256 + bytes[at + 3]!
    if (marker === START_OF_SCAN || length < 2) return undefined
    const data = bytes.subarray(at + 4, at + 2 + length)
    if (marker === APP1 && Buffer.from(data.subarray(0, 6)).toString('latin1') === 'Exif\0\0') return data
    at += 2 + length
  }
  return undefined
}

/** Source: WebP Container Specification, "RIFF File Format". */
function exifOfWebp(bytes: Uint8Array): Uint8Array | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true)
    const name = String.fromCharCode(...bytes.subarray(at, at + 4))
    if (name === 'EXIF') return bytes.subarray(at + 8, at + 8 + length)
    at += 8 + length + (length % 2)
  }
  return undefined
}
