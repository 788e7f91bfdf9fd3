/** A filter by its half-width, and its value at a distance. */
interface Filter {
  support: number
  at(x: number): number
}

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI))

/** Pillow's filters by name. */
export const FILTERS = {
  lanczos: { support: 3, at: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
  // Keys' cubic with a = -0.5
  bicubic: {
    support: 2,
    at(x) {
      const d = Math.abs(x)
      if (d < 1) return (1.5 * d - 2.5) * d * d + 1
      return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0
    },
  },
} as const satisfies Record<string, Filter>

export type FilterName = keyof typeof FILTERS

/** the part of an image that is scaled: left, top, right, bottom, in pixels, which may be fractions */
export type Box = readonly [number, number, number, number]

/** fraction bits of a weight; 8 bits of the byte and 2 for the overshoot complete 32 */
const PRECISION = 22

/**
 * Scales bytes [height, width, channels], with the same bytes as a result on every machine: widths first, then heights,
 * each with the filter widened by the reduction (antialiasing) and weights in fixed point.
 *
 * Source: python-pillow/Pillow `src/libImaging/Resample.c` (`ImagingResample`), whose results are the same.
 */
export function resample(
  data: Uint8Array,
  [height, width, channels]: readonly [number, number, number],
  [targetHeight, targetWidth]: readonly [number, number],
  filter: FilterName = 'lanczos',
  [left, top, right, bottom]: Box = [0, 0, width, height],
): Uint8Array {
  const rows = weights(height, top, bottom, targetHeight, FILTERS[filter])
  // only the rows that the second pass reads
  const [firstRow, lastRow] = [rows[0]!.first, rows.at(-1)!.first + rows.at(-1)!.factors.length]
  let scaled = data.subarray(firstRow * width * channels, lastRow * width * channels)
  if (targetWidth !== width || left !== 0 || right !== width)
    scaled = pass(scaled, lastRow - firstRow, channels, weights(width, left, right, targetWidth, FILTERS[filter]))
  // never a view of the caller's own bytes
  if (targetHeight === height && top === 0 && bottom === height)
    return scaled.buffer === data.buffer ? scaled.slice() : scaled
  const shifted = rows.map(({ first, factors }) => ({ first: first - firstRow, factors }))
  return pass(scaled, 1, targetWidth * channels, shifted)
}

/** What one value of the result is made of: the first value that is read, and factors for it and the next ones. */
interface Weights {
  first: number
  /** fixed point */
  factors: Int32Array
}

function weights(length: number, begin: number, end: number, target: number, { support, at }: Filter): Weights[] {
  const scale = Math.fround(end - begin) / target // Pillow's boxes are float32
  const widening = Math.max(scale, 1)
  return Array.from({ length: target }, (_, i) => {
    const centre = begin + (i + 0.5) * scale
    const first = Math.max(Math.trunc(centre - support * widening + 0.5), 0)
    const last = Math.min(Math.trunc(centre + support * widening + 0.5), length)
    const factors = Array.from({ length: last - first }, (_, k) => at((first + k - centre + 0.5) / widening))
    const sum = factors.reduce((sum, factor) => sum + factor, 0)
    return { first, factors: Int32Array.from(factors, (factor) => fixed(sum === 0 ? factor : factor / sum)) }
  })
}

function fixed(factor: number): number {
  return Math.trunc((factor < 0 ? -0.5 : 0.5) + factor * 2 ** PRECISION)
}

/** Scales the middle axis of [outer, length, inner] to the number of weights. */
function pass(data: Uint8Array, outer: number, inner: number, weights: readonly Weights[]): Uint8Array {
  const length = data.length / (outer * inner)
  const scaled = new Uint8Array(outer * weights.length * inner)
  const sums = new Int32Array(inner)
  for (let o = 0, out = 0; o < outer; o++) {
    for (const { first, factors } of weights) {
      sums.fill(1 << (PRECISION - 1))
      for (let k = 0, from = (o * length + first) * inner; k < factors.length; k++) {
        const factor = factors[k]!
        for (let i = 0; i < inner; i++, from++) sums[i]! += factor * data[from]!
      }
      for (let i = 0; i < inner; i++, out++) {
        const value = sums[i]! >> PRECISION
        scaled[out] = value < 0 ? 0 : Math.min(value, 255)
      }
    }
  }
  return scaled
}
