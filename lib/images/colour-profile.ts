import { promisify } from 'node:util'
import { deflate } from 'node:zlib'
import { FluxError } from '../errors.js'
import { loadSharp } from './load-sharp.js'
import { chunk } from './png.js'
import type { Pixels } from './rgb-image.js'

/** Offsets in a profile. Source: ICC.1:2022, sections 7.2 and 7.3. */
const COLOUR_SPACE = 16
const TAG_COUNT = 128
const TAGS = 132

const MOST_TAGS = 100

/** Returns the colour space of the pixels that an ICC profile is for: `RGB`, `GRAY`, `CMYK`, … */
function colourSpace(profile: Uint8Array): string {
  return Buffer.from(profile.subarray(COLOUR_SPACE, COLOUR_SPACE + 4))
    .toString('latin1')
    .trim()
}

/** Returns the description of an ICC profile, `Display P3` for example, or an empty text. */
export function profileName(profile: Uint8Array): string {
  const bytes = Buffer.from(profile.buffer, profile.byteOffset, profile.byteLength)
  if (bytes.length < TAGS) return ''
  const count = Math.min(bytes.readUInt32BE(TAG_COUNT), MOST_TAGS)
  for (let i = 0, at = TAGS; i < count && at + 12 <= bytes.length; i++, at += 12) {
    if (bytes.toString('latin1', at, at + 4) !== 'desc') continue
    const begin = bytes.readUInt32BE(at + 4)
    const text = bytes.subarray(begin, begin + Math.min(bytes.readUInt32BE(at + 8), 1024))
    // version 2: ASCII after 12 bytes; version 4: UTF-16 after the table of languages
    const isAscii = text.toString('latin1', 0, 4) === 'desc'
    const decoded = isAscii ? text.toString('latin1', 12) : swapped(text.subarray(28)).toString('utf16le')
    return decoded.replace(/\0[^]*/, '').trim()
  }
  return ''
}

function swapped(text: Buffer): Buffer {
  return Buffer.from(text.subarray(0, text.length & ~1)).swap16()
}

/**
 * Converts pixels to sRGB from the profile they are stored in. A profile that is called sRGB leaves them as they are.
 * Of the other profiles those for grey and RGB are converted, with sharp.
 *
 * @throws FluxError FLUX_UNSUPPORTED without sharp
 */
export async function convertToSrgb(what: string, pixels: Pixels, profile: Uint8Array): Promise<Pixels> {
  const name = profileName(profile)
  const space = colourSpace(profile)
  if (/^sRGB\b/.test(name) || (space !== 'RGB' && space !== 'GRAY')) return pixels
  const otherwise = `save the image in sRGB, or set ignoreProfile to take its colours as sRGB`
  const sharp = await loadSharp(`${what} with the colour profile '${name.slice(0, 80)}'`, otherwise)
  // sharp reads a profile only from a file, and converts 8 bits correctly, 16 bits not
  const png = await profiledPng(space === 'GRAY' ? greyOf(pixels) : pixels, profile)
  try {
    const { data, info } = await sharp(png, { limitInputPixels: false, failOn: 'error' })
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true })
    return { ...pixels, data: new Uint8Array(data), channels: info.channels as 3 | 4 }
  } catch (cause) {
    const remedy = 'save it again, or set ignoreProfile to take its colours as sRGB'
    throw new FluxError('FLUX_BAD_FILE', `${what} has a damaged colour profile: ${remedy}`, { cause })
  }
}

/** Keeps red (and alpha) of pixels that are grey: 3 channels to 1, 4 to 2. */
function greyOf({ data, width, height, channels }: Pixels): GreyPixels {
  const count = channels === 4 ? 2 : 1
  const grey = new Uint8Array(width * height * count)
  for (let i = 0; i < width * height; i++) {
    grey[i * count] = data[i * channels]!
    if (count === 2) grey[i * 2 + 1] = data[i * 4 + 3]!
  }
  return { data: grey, width, height, channels: count }
}

type GreyPixels = Omit<Pixels, 'channels'> & { channels: 1 | 2 }

/** PNG's numbers for 1 to 4 channels */
const COLOUR_TYPE = { 1: 0, 2: 4, 3: 2, 4: 6 } as const

/** An uncompressed PNG file with 8 bits per channel. */
async function profiledPng(
  { data, width, height, channels }: Pixels | GreyPixels,
  profile: Uint8Array,
): Promise<Buffer> {
  const compress = promisify(deflate) as (data: Uint8Array, options: { level: number }) => Promise<Buffer>
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, COLOUR_TYPE[channels]], 8)
  const row = width * channels
  const rows = new Uint8Array(height * (row + 1)) // filter 0 before each row
  for (let y = 0; y < height; y++) rows.set(data.subarray(y * row, (y + 1) * row), y * (row + 1) + 1)
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('iCCP', Buffer.concat([Buffer.from('icc\0\0', 'latin1'), await compress(profile, { level: 1 })])),
    chunk('IDAT', await compress(rows, { level: 0 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}
