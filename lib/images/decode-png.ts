import { inflateSync } from 'node:zlib'
import { PNG } from 'pngjs'
import { pngChunks } from './png-chunks.js'
import type { Pixels } from './rgb-image.js'

/** What a PNG file says before its pixels. */
export interface PngHeader {
  width: number
  height: number
  depth: number
  colourType: number
  interlaced: boolean
}

/** bit of the colour type */
const ALPHA = 4

const CHANNELS: Record<number, { channels: number; depths: readonly number[] }> = {
  0: { channels: 1, depths: [1, 2, 4, 8, 16] },
  2: { channels: 3, depths: [8, 16] },
  3: { channels: 1, depths: [1, 2, 4, 8] },
  4: { channels: 2, depths: [8, 16] },
  6: { channels: 4, depths: [8, 16] },
}

/**
 * Reads IHDR. Throws an Error with the reason if it is damaged.
 * Source: PNG specification, third edition, section 11.2.1.
 */
export function readPngHeader(data: Uint8Array): PngHeader {
  if (data.length !== 13) throw new Error(`its header has ${data.length} bytes instead of 13`)
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  const [width, height] = [view.getUint32(0), view.getUint32(4)]
  const [depth, colourType, compression, filter, interlace] = data.subarray(8) as Uint8Array & number[]
  if (width === 0 || height === 0) throw new Error(`its size is ${width} x ${height}`)
  const known = CHANNELS[colourType!]?.depths.includes(depth!)
  if (!known || compression !== 0 || filter !== 0 || interlace! > 1)
    throw new Error(`its header names an unknown format (${data.subarray(8).join(', ')})`)
  return { width, height, depth: depth!, colourType: colourType!, interlaced: interlace === 1 }
}

/** Adam7: first column and row, and distance of the columns and rows, of each pass. */
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const

/**
 * Decodes a PNG file to RGB, and alpha if the file has any. Bit depths other than 8 are scaled and rounded. Throws an Error with the reason if the file is damaged.
 *
 * pngjs limits the inflated size only if the image is not interlaced, so the other case is measured here first.
 */
export function decodePng(file: Uint8Array, header: PngHeader): Pixels {
  if (header.interlaced) {
    const parts = [...pngChunks(file)].filter(({ type }) => type === 'IDAT')
    inflateSync(Buffer.concat(parts.map(({ data }) => data)), { maxOutputLength: interlacedLength(header) })
  }
  const { data, width, height } = PNG.sync.read(Buffer.from(file.buffer, file.byteOffset, file.byteLength))
  const rgba = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const hasAlpha = (header.colourType & ALPHA) !== 0 || [...pngChunks(file)].some(({ type }) => type === 'tRNS')
  if (hasAlpha) return { data: rgba, width, height, channels: 4 }
  return { data: withoutAlpha(rgba), width, height, channels: 3 }
}

function withoutAlpha(rgba: Uint8Array): Uint8Array {
  const count = rgba.length / 4
  for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) rgba[i * 3 + c] = rgba[i * 4 + c]!
  return rgba.subarray(0, count * 3)
}

function interlacedLength({ width, height, depth, colourType }: PngHeader): number {
  const bits = depth * CHANNELS[colourType]!.channels
  return PASSES.reduce((sum, [x, y, dx, dy]) => {
    const [columns, rows] = [Math.ceil((width - x) / dx), Math.ceil((height - y) / dy)]
    return columns > 0 && rows > 0 ? sum + rows * (1 + Math.ceil((columns * bits) / 8)) : sum
  }, 0)
}
