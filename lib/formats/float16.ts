const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

/**
 * IEEE half-precision bit patterns of `values`, rounded to nearest, ties to even. Values that exceed 65504 by half a
 * step or more become infinite.
 */
export function toFloat16(values: Float32Array): Uint16Array {
  const pattern = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const halves = new Uint16Array(values.length)
  for (let i = 0; i < halves.length; i++) {
    const sign = (pattern[i]! >>> 16) & 0x8000
    const magnitude = pattern[i]! & 0x7fffffff
    if (magnitude > 0x7f800000) {
      halves[i] = sign | 0x7e00
    } else if (magnitude >= 0x477ff000) {
      halves[i] = sign | 0x7c00
    } else if (magnitude >= 0x38800000) {
      // the exponent's bias changes from 127 to 15; a carry out of the fraction correctly raises the exponent
      halves[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)
    } else {
      // below 2^-14 halves are multiples of 2^-24: adding 0.5, whose last bit is 2^-24, rounds to such a multiple
      float[0] = 0.5 + Math.abs(values[i]!)
      halves[i] = sign | (bits[0]! - 0x3f000000)
    }
  }
  return halves
}

/** bfloat16 bit patterns of `values`, rounded to nearest, ties to even. */
export function toBFloat16(values: Float32Array): Uint16Array {
  const pattern = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const halves = new Uint16Array(values.length)
  for (let i = 0; i < halves.length; i++) {
    const p = pattern[i]!
    halves[i] = (p & 0x7fffffff) > 0x7f800000 ? (p >>> 16) | 0x40 : (p + 0x7fff + ((p >>> 16) & 1)) >>> 16
  }
  return halves
}

/** The number that a bit pattern represents. */
export function fromFloat16(bits: number): number {
  const [exponent, mantissa] = [(bits >> 10) & 31, bits & 1023]
  const size =
    exponent === 0
      ? mantissa * 2 ** -24
      : exponent === 31
        ? mantissa
          ? NaN
          : Infinity
        : (1 + mantissa / 1024) * 2 ** (exponent - 15)
  return bits >> 15 ? -size : size
}
