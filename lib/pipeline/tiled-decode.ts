import { FluxError } from '../errors.js'

/** Decodes latents [channels, rows, columns] to an image [3, reduction rows, reduction columns]. */
export type Decode = (latents: Float32Array, rows: number, columns: number) => Promise<Float32Array>

/** Sides of tiles in latents, tried in this order; each needs about half as much memory as the one before. */
const SIDES = [96, 64, 48, 32]

/**
 * Decodes the whole image. If memory does not suffice, decodes overlapping tiles that fade into each other, as large as
 * possible. A tile sees only a part of the image, and the norms take their statistics from that part. Colours may
 * therefore shift slightly across the image, without a visible edge.
 *
 * @param reduction pixels of the image per latent, along one side
 * @returns the image, and the side of its tiles in pixels if it was decoded in tiles
 * @throws {FluxError} FLUX_OUT_OF_MEMORY when not even the smallest tile fits; everything else that `decode` throws
 */
export async function decodeWithin(
  decode: Decode,
  latents: Float32Array,
  rows: number,
  columns: number,
  reduction: number,
): Promise<{ image: Float32Array; tile?: number }> {
  try {
    return { image: await decode(latents, rows, columns) }
  } catch (error) {
    let reason = error
    for (const side of SIDES.filter((side) => side < Math.max(rows, columns))) {
      if (!(reason instanceof FluxError && reason.code === 'FLUX_OUT_OF_MEMORY')) break
      try {
        return { image: await decodeTiles(decode, latents, rows, columns, side, reduction), tile: reduction * side }
      } catch (again) {
        reason = again
      }
    }
    throw reason
  }
}

/** Decodes tiles of `side` latents and blends them. Neighbouring tiles overlap by at least a quarter. */
export async function decodeTiles(
  decode: Decode,
  latents: Float32Array,
  rows: number,
  columns: number,
  side: number,
  reduction: number,
): Promise<Float32Array> {
  const channels = latents.length / (rows * columns)
  const [height, width] = [reduction * rows, reduction * columns]
  const image = new Float32Array(3 * height * width)
  const strips = spans(columns, side, reduction)
  for (const down of spans(rows, side, reduction)) {
    for (const across of strips) {
      const part = await decode(cut(latents, channels, columns, rows, down, across), down.count, across.count)
      const [partHeight, partWidth] = [reduction * down.count, reduction * across.count]
      const [top, left] = [reduction * down.first, reduction * across.first]
      for (let c = 0, i = 0; c < 3; c++) {
        for (let y = 0; y < partHeight; y++) {
          const row = (c * height + top + y) * width + left
          for (let x = 0; x < partWidth; x++, i++) image[row + x]! += part[i]! * down.weights[y]! * across.weights[x]!
        }
      }
    }
  }
  return image
}

interface Span {
  /** in latents */
  first: number
  count: number
  /** weight in the image for each pixel; the weights of all spans add up to 1 everywhere */
  weights: Float32Array
}

/** Returns evenly placed spans of at most `side` latents that cover `length`. */
function spans(length: number, side: number, reduction: number): Span[] {
  const count = Math.min(side, length)
  const overlap = Math.floor(count / 4)
  const parts = length > count ? Math.ceil((length - overlap) / (count - overlap)) : 1
  const firsts = Array.from({ length: parts }, (_, i) =>
    parts === 1 ? 0 : Math.round((i * (length - count)) / (parts - 1)),
  )
  const [pixels, fade] = [reduction * count, reduction * overlap]
  const ramp = (x: number) => Math.min(1, (x + 0.5) / fade, (pixels - x - 0.5) / fade)
  const sums = new Float32Array(reduction * length)
  for (const first of firsts) for (let x = 0; x < pixels; x++) sums[reduction * first + x]! += ramp(x)
  return firsts.map((first) => ({
    first,
    count,
    weights: Float32Array.from({ length: pixels }, (_, x) => ramp(x) / sums[reduction * first + x]!),
  }))
}

/** Returns [channels, down.count, across.count] of latents [channels, rows, columns]. */
function cut(
  latents: Float32Array,
  channels: number,
  columns: number,
  rows: number,
  down: Span,
  across: Span,
): Float32Array {
  const part = new Float32Array(channels * down.count * across.count)
  for (let c = 0, i = 0; c < channels; c++) {
    for (let y = 0; y < down.count; y++, i += across.count) {
      const from = (c * rows + down.first + y) * columns + across.first
      part.set(latents.subarray(from, from + across.count), i)
    }
  }
  return part
}
