import { withinMemory } from '../networks/within-memory.js'

/** Decodes latents [channels, rows, columns] to an image [3, reduction rows, reduction columns]. */
export type Decode = (latents: Float32Array, rows: number, columns: number) => Promise<Float32Array>

/** Encodes an image [3, reduction rows, reduction columns] to latents [channels, rows, columns]. */
export type Encode = (image: Float32Array, height: number, width: number) => Promise<Float32Array>

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
  const { output, side } = await within(rows, columns, (side) =>
    side === undefined ? decode(latents, rows, columns) : decodeTiles(decode, latents, rows, columns, side, reduction),
  )
  return { image: output, ...(side === undefined ? {} : { tile: reduction * side }) }
}

/** Encodes the whole image, or tiles of it, as {@link decodeWithin} decodes. */
export async function encodeWithin(
  encode: Encode,
  image: Float32Array,
  height: number,
  width: number,
  { reduction, channels }: { reduction: number; channels: number },
): Promise<Float32Array> {
  const [rows, columns] = [height / reduction, width / reduction]
  const { output } = await within(rows, columns, (side) =>
    side === undefined
      ? encode(image, height, width)
      : blendTiles(
          (part, down, across) => encode(part, down.count * reduction, across.count * reduction),
          { data: image, rows, columns, unit: reduction },
          { channels, unit: 1 },
          side,
        ),
  )
  return output
}

/** Decodes tiles of `side` latents and blends them. Neighbouring tiles overlap by at least a quarter. */
export function decodeTiles(
  decode: Decode,
  latents: Float32Array,
  rows: number,
  columns: number,
  side: number,
  reduction: number,
): Promise<Float32Array> {
  return blendTiles(
    (part, down, across) => decode(part, down.count, across.count),
    { data: latents, rows, columns, unit: 1 },
    { channels: 3, unit: reduction },
    side,
  )
}

/** Tries the whole, then smaller and smaller tiles while memory does not suffice. */
async function within(
  rows: number,
  columns: number,
  attempt: (side?: number) => Promise<Float32Array>,
): Promise<{ output: Float32Array; side: number | undefined }> {
  const sides = [undefined, ...SIDES.filter((side) => side < Math.max(rows, columns))]
  const { output, size: side } = await withinMemory(sides, attempt)
  return { output, side }
}

/** Planes [channels, unit * rows, unit * columns]. */
interface Planes {
  data: Float32Array
  rows: number
  columns: number
  unit: number
}

/** Evaluates overlapping tiles of at most `side` cells and adds them up, each weighted so that they fade. */
async function blendTiles(
  evaluate: (part: Float32Array, down: Span, across: Span) => Promise<Float32Array>,
  input: Planes,
  { channels, unit }: { channels: number; unit: number },
  side: number,
): Promise<Float32Array> {
  const { rows, columns } = input
  const [height, width] = [unit * rows, unit * columns]
  const output = new Float32Array(channels * height * width)
  const strips = spans(columns, side, unit)
  for (const down of spans(rows, side, unit)) {
    for (const across of strips) {
      const part = await evaluate(cut(input, down, across), down, across)
      const [partHeight, partWidth] = [unit * down.count, unit * across.count]
      const [top, left] = [unit * down.first, unit * across.first]
      for (let c = 0, i = 0; c < channels; c++) {
        for (let y = 0; y < partHeight; y++) {
          const row = (c * height + top + y) * width + left
          for (let x = 0; x < partWidth; x++, i++) output[row + x]! += part[i]! * down.weights[y]! * across.weights[x]!
        }
      }
    }
  }
  return output
}

interface Span {
  /** in latents */
  first: number
  count: number
  /** weight in the output for each pixel or latent; the weights of all spans add up to 1 everywhere */
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

/** Returns the planes of one tile. */
function cut({ data, rows, columns, unit }: Planes, down: Span, across: Span): Float32Array {
  const channels = data.length / (rows * columns * unit * unit)
  const [height, width] = [unit * down.count, unit * across.count]
  const part = new Float32Array(channels * height * width)
  for (let c = 0, i = 0; c < channels; c++) {
    for (let y = 0; y < height; y++, i += width) {
      const from = ((c * rows + down.first) * unit + y) * columns * unit + across.first * unit
      part.set(data.subarray(from, from + width), i)
    }
  }
  return part
}
