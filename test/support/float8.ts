// The two 8-bit float types, after the Open Compute Project's specification (OFP8, table 1): sign, exponent, mantissa.

export const FLOAT8 = {
  // bias 7; only all ones is no number, so the largest is 448
  F8_E4M3: Array.from({ length: 256 }, (_, bits) =>
    value(bits, 4, 3, 7, (exponent, mantissa) => exponent === 15 && mantissa === 7),
  ),
  // bias 15; as IEEE's halves, the largest exponent is infinity and what is no number
  F8_E5M2: Array.from({ length: 256 }, (_, bits) => value(bits, 5, 2, 15, (exponent) => exponent === 31)),
}

function value(
  bits: number,
  exponentBits: number,
  mantissaBits: number,
  bias: number,
  none: (exponent: number, mantissa: number) => boolean,
): number {
  const mantissa = bits & ((1 << mantissaBits) - 1)
  const exponent = (bits >> mantissaBits) & ((1 << exponentBits) - 1)
  if (none(exponent, mantissa)) return NaN
  const fraction = mantissa / (1 << mantissaBits)
  const size = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias)
  return bits & 128 ? -size : size
}

/** The nearest codes, and the numbers that they stand for, times `scale`. */
export function toFloat8(
  type: keyof typeof FLOAT8,
  values: Float32Array,
  scale = 1,
): { codes: Uint8Array; decoded: Float32Array } {
  const known = FLOAT8[type]
    .map((number, code) => ({ number, code }))
    .filter(({ number }) => Number.isFinite(number))
    .sort((a, b) => a.number - b.number)
  const numbers = Float64Array.from(known, ({ number }) => number)
  const codes = new Uint8Array(values.length)
  const decoded = new Float32Array(values.length)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]! / scale
    let low = 0
    let high = numbers.length - 1
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (numbers[middle]! <= value) low = middle
      else high = middle
    }
    const nearest = Math.abs(numbers[low]! - value) <= Math.abs(numbers[high]! - value) ? low : high
    codes[i] = known[nearest]!.code
    decoded[i] = Math.fround(numbers[nearest]! * scale)
  }
  return { codes, decoded }
}
