import { inflateSync } from 'node:zlib'
import { FluxError } from '../errors.js'
import { requireOptions, requireSignal } from '../options/checks.js'
import { inBackground } from './background.js'
import { convertToSrgb } from './colour-profile.js'
import { readPngHeader, type PngHeader } from './decode-png.js'
import { EXIF_TAG, readExif } from './exif.js'
import { isFileSource, readImageFile, requireFewPixels, requireMaxPixels, type ImageFile } from './image-file.js'
import { loadSharp } from './load-sharp.js'
import { pngChunks } from './png-chunks.js'
import { readRaw, type ImageSource, type Pixels, type RgbImage } from './rgb-image.js'
import { composite, requireColour, WHITE, type Colour } from './to-rgb-image.js'

export interface ReadImageOptions {
  /** colour behind transparent pixels, 0 to 255 each; 'keep' leaves colours as they are stored. @default white */
  background?: Colour | 'keep'
  /** limit of width times height, 1 to 268435456. @default 67108864 (8192 x 8192) */
  maxPixels?: number
  /** takes the colours as sRGB, whatever the file's colour profile says. @default false */
  ignoreProfile?: boolean
  /** what messages call the image. @default 'image' */
  name?: string
  signal?: AbortSignal
}

/** pixels of a file, before they are turned upright */
interface Decoded {
  pixels: Pixels
  /** of Exif, 1 to 8 */
  orientation: number
  /** the profile that the pixels still have to be converted from */
  profile?: Uint8Array | undefined
}

/**
 * Reads an image as a viewer shows it: upright, in sRGB, with 8 bits per channel, transparent pixels over a colour. PNG
 * is built in; JPEG, WebP, AVIF, HEIC and GIF (the first frame) need the optional package sharp, and so does a PNG with
 * a colour profile other than sRGB. The content says what a file is, not its name. Decoded off the main thread.
 *
 * @param source a path, the bytes of a file, or pixels; copied
 * @throws FluxError FLUX_NOT_FOUND; FLUX_BAD_FILE for a file that is damaged, truncated or no image; FLUX_UNSUPPORTED
 *   for too many pixels (from the header, before decoding), more than 256 MiB, or without sharp; FLUX_BAD_OPTION,
 *   FLUX_BAD_SHAPE for wrong pixels
 */
export async function readImage(source: ImageSource, options: ReadImageOptions = {}): Promise<RgbImage> {
  requireOptions('the options of readImage', options, ['background', 'maxPixels', 'ignoreProfile', 'name', 'signal'])
  const { ignoreProfile = false, name = 'image', signal } = options
  requireSignal(signal)
  const maxPixels = requireMaxPixels(options.maxPixels)
  const { background: wanted = WHITE } = options
  const background = wanted === 'keep' ? wanted : requireColour('background', wanted)
  if (!isFileSource(name, source)) {
    const { pixels, alpha } = readRaw(name, source)
    requireFewPixels(name, pixels.width, pixels.height, maxPixels)
    const image = await inBackground('toRgbImage', [pixels, 1, background], [pixels.data.buffer as ArrayBuffer], signal)
    if (!alpha) return image
    if (background !== 'keep') composite(image.data, alpha, background)
    return { ...image, alpha }
  }
  const file = await readImageFile(name, source)
  const read = file.type === 'PNG' ? readPng : readWithSharp
  const { pixels, orientation, profile } = await read(file, maxPixels, ignoreProfile, signal)
  const converted = profile ? await convertToSrgb(file.what, pixels, profile) : pixels
  const moved = [converted.data.buffer as ArrayBuffer]
  return inBackground('toRgbImage', [converted, orientation, background], moved, signal)
}

function damaged(what: string, cause: unknown): FluxError {
  const reason = (cause as Error).message.split('\n', 1)[0]
  return new FluxError('FLUX_BAD_FILE', `${what} is damaged (${reason}): give another file`, { cause })
}

/** chunks that the decoder gets: what viewers need for the pixels */
const PIXEL_CHUNKS = ['IHDR', 'PLTE', 'tRNS', 'IDAT', 'IEND']

async function readPng(
  { bytes, what }: ImageFile,
  maxPixels: number,
  ignoreProfile: boolean,
  signal: AbortSignal | undefined,
): Promise<Decoded> {
  const chunks = [...pngChunks(bytes)]
  const [first] = chunks
  let header: PngHeader
  try {
    if (first?.type !== 'IHDR') throw new Error('it does not begin with a header')
    header = readPngHeader(first.data)
  } catch (cause) {
    throw damaged(what, cause)
  }
  requireFewPixels(what, header.width, header.height, maxPixels)
  if (chunks.at(-1)!.type !== 'IEND') throw damaged(what, new Error('it is truncated'))
  const one = (type: string) => chunks.find((chunk) => chunk.type === type)?.data
  const [exif, iccp] = [one('eXIf'), ignoreProfile ? undefined : one('iCCP')]
  const orientation = exif && readExif(exif).number(EXIF_TAG.orientation)

  const kept = chunks.filter(({ type }, i) => PIXEL_CHUNKS.includes(type) && (type !== 'IHDR' || i === 0))
  const file = new Uint8Array(8 + kept.reduce((sum, { begin, end }) => sum + end - begin, 0))
  file.set(bytes.subarray(0, 8))
  let at = 8
  for (const { begin, end } of kept) {
    file.set(bytes.subarray(begin, end), at)
    at += end - begin
  }
  const pixels = await inBackground('decodePng', [file, header], [file.buffer], signal).catch((cause) => {
    signal?.throwIfAborted()
    throw cause instanceof FluxError ? cause : damaged(what, cause)
  })
  return { pixels, orientation: uprightness(orientation), profile: iccp && inflateProfile(what, iccp) }
}

const uprightness = (orientation: number | undefined) =>
  orientation !== undefined && orientation >= 1 && orientation <= 8 ? orientation : 1

const MOST_PROFILE_BYTES = 4 * 2 ** 20

/** The profile after the name (up to NUL) and the compression method. Source: PNG, third edition, 11.3.2.3. */
function inflateProfile(what: string, iccp: Uint8Array): Uint8Array {
  try {
    return inflateSync(iccp.subarray(iccp.indexOf(0) + 2), { maxOutputLength: MOST_PROFILE_BYTES })
  } catch (cause) {
    throw damaged(`the colour profile of ${what}`, cause)
  }
}

async function readWithSharp(
  { bytes, type, what }: ImageFile,
  maxPixels: number,
  ignoreProfile: boolean,
): Promise<Decoded> {
  const sharp = await loadSharp(`${what} (${type})`, 'give a PNG file')
  const input = { limitInputPixels: maxPixels, failOn: 'error' } as const
  try {
    const { width, height, depth, icc } = await sharp(bytes, { ...input, limitInputPixels: false }).metadata()
    requireFewPixels(what, width, height, maxPixels)
    // sharp leaves more than 8 bits in the profile's colours without saying so, so they are converted afterwards
    const profile = depth === 'ushort' && !ignoreProfile ? icc : undefined
    const { data, info } = await sharp(bytes, { ...input, ignoreIcc: ignoreProfile || profile !== undefined })
      .rotate() // by its Exif orientation
      .toColourspace('srgb')
      .timeout({ seconds: 60 })
      .raw()
      .toBuffer({ resolveWithObject: true })
    const pixels = { data: new Uint8Array(data), ...info, channels: info.channels as 3 | 4 }
    return { pixels, orientation: 1, profile }
  } catch (cause) {
    if (cause instanceof FluxError) throw cause
    if (type === 'HEIC')
      throw new FluxError(
        'FLUX_UNSUPPORTED',
        `${what} is a HEIC file that this build of sharp cannot decode: convert it to JPEG or PNG`,
        { cause },
      )
    throw damaged(what, cause)
  }
}
