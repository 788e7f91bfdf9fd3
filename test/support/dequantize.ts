/**
 * Block formats turned back into numbers, written from their published layouts (ggml's `ggml-common.h`) for checking the quantiser and
 * the products of the native side: plain and slow, one formula per element.
 */

/** A block's bytes, read at offsets from the block's beginning. */
interface Block {
  u8(at: number): number
  i8(at: number): number
  u16(at: number): number
  u32(at: number): number
  half(at: number): number
}

interface BlockFormat {
  /** elements in a block */
  size: number
  bytes: number
  /** the value of element `i` of the block */
  value(block: Block, i: number): number
}

/** The 16 values of the non-linear 4-bit types. */
const IQ4_VALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

/** Block of 32 with the low nibbles first: element i < 16 is in the low half of byte i, element i + 16 in its high half. */
const nibble32 = (block: Block, at: number, i: number) => (block.u8(at + (i % 16)) >> (i < 16 ? 0 : 4)) & 15
/** The same in chunks of 64 elements and 32 bytes. */
const nibble64 = (block: Block, at: number, i: number) =>
  (block.u8(at + (i >> 6) * 32 + (i % 32)) >> (i & 32 ? 4 : 0)) & 15
/** 2-bit numbers in chunks of 128 elements and 32 bytes: four planes of 32, the lowest bits first. */
const pair128 = (block: Block, at: number, i: number) =>
  (block.u8(at + (i >> 7) * 32 + (i % 32)) >> (2 * ((i >> 5) % 4))) & 3

/** The 6-bit scale and minimum of sub-block `j` (of 8) from the 12 bytes at `at`: Q4_K and Q5_K. */
function scaleAndMin(block: Block, at: number, j: number): { scale: number; min: number } {
  if (j < 4) return { scale: block.u8(at + j) & 63, min: block.u8(at + j + 4) & 63 }
  const low = block.u8(at + j + 4)
  return { scale: (low & 15) | ((block.u8(at + j - 4) >> 6) << 4), min: (low >> 4) | ((block.u8(at + j) >> 6) << 4) }
}

export const BLOCK_FORMATS = {
  F32: { size: 1, bytes: 4, value: (b) => bitsToFloat(b.u32(0)) },
  F16: { size: 1, bytes: 2, value: (b) => b.half(0) },
  BF16: { size: 1, bytes: 2, value: (b) => bitsToFloat(b.u16(0) << 16) },
  // half d; 16 bytes of nibbles
  Q4_0: { size: 32, bytes: 18, value: (b, i) => b.half(0) * (nibble32(b, 2, i) - 8) },
  // half d, m; 16 bytes of nibbles
  Q4_1: { size: 32, bytes: 20, value: (b, i) => b.half(0) * nibble32(b, 4, i) + b.half(2) },
  // half d; 32 fifth bits, bit i of element i; 16 bytes of nibbles
  Q5_0: {
    size: 32,
    bytes: 22,
    value: (b, i) => b.half(0) * ((nibble32(b, 6, i) | (((b.u32(2) >>> i) & 1) << 4)) - 16),
  },
  // half d, m; 32 fifth bits; 16 bytes of nibbles
  Q5_1: {
    size: 32,
    bytes: 24,
    value: (b, i) => b.half(0) * (nibble32(b, 8, i) | (((b.u32(4) >>> i) & 1) << 4)) + b.half(2),
  },
  // half d; 32 signed bytes
  Q8_0: { size: 32, bytes: 34, value: (b, i) => b.half(0) * b.i8(2 + i) },
  // 16 bytes scale | minimum << 4, one per 16 elements; 64 bytes of 2 bits; half d, dmin
  Q2_K: {
    size: 256,
    bytes: 84,
    value: (b, i) => b.half(80) * (b.u8(i >> 4) & 15) * pair128(b, 16, i) - b.half(82) * (b.u8(i >> 4) >> 4),
  },
  // 32 bytes of third bits (plane i / 32 is bit i / 32); 64 bytes of 2 bits; 12 bytes of 16 6-bit scales; half d
  Q3_K: {
    size: 256,
    bytes: 110,
    value: (b, i) => {
      const j = i >> 4
      const low = (b.u8(96 + (j % 8)) >> (j < 8 ? 0 : 4)) & 15
      const high = (b.u8(104 + (j % 4)) >> (2 * (j >> 2))) & 3
      const third = (b.u8(i % 32) >> (i >> 5)) & 1
      return b.half(108) * ((low | (high << 4)) - 32) * (pair128(b, 32, i) - (third ? 0 : 4))
    },
  },
  // half d, dmin; 12 bytes of 8 6-bit scales and minima; 128 bytes of nibbles
  Q4_K: {
    size: 256,
    bytes: 144,
    value: (b, i) => {
      const { scale, min } = scaleAndMin(b, 4, i >> 5)
      return b.half(0) * scale * nibble64(b, 16, i) - b.half(2) * min
    },
  },
  // as Q4_K, with 32 bytes of fifth bits (plane i / 32 is bit i / 32) before the nibbles
  Q5_K: {
    size: 256,
    bytes: 176,
    value: (b, i) => {
      const { scale, min } = scaleAndMin(b, 4, i >> 5)
      const fifth = (b.u8(16 + (i % 32)) >> (i >> 5)) & 1
      return b.half(0) * scale * (nibble64(b, 48, i) | (fifth << 4)) - b.half(2) * min
    },
  },
  // 128 bytes of low nibbles in chunks of 128 elements and 64 bytes; 64 bytes of high pairs; 16 signed scales; half d
  Q6_K: {
    size: 256,
    bytes: 210,
    value: (b, i) => {
      const low = (b.u8((i >> 7) * 64 + (i % 64)) >> (i & 64 ? 4 : 0)) & 15
      return b.half(208) * b.i8(192 + (i >> 4)) * ((low | (pair128(b, 128, i) << 4)) - 32)
    },
  },
  // half d; 16 bytes of nibbles that choose from the table
  IQ4_NL: { size: 32, bytes: 18, value: (b, i) => b.half(0) * IQ4_VALUES[nibble32(b, 2, i)]! },
  // half d; 8 high pairs of the scales; 4 bytes of their low nibbles; 128 bytes of nibbles in sub-blocks of 32
  IQ4_XS: {
    size: 256,
    bytes: 136,
    value: (b, i) => {
      const j = i >> 5
      const low = (b.u8(4 + (j >> 1)) >> (4 * (j % 2))) & 15
      const high = (b.u16(2) >> (2 * j)) & 3
      return b.half(0) * ((low | (high << 4)) - 32) * IQ4_VALUES[nibble32(b, 8 + 16 * j, i % 32)]!
    },
  },
} satisfies Record<string, BlockFormat>

export type BlockType = keyof typeof BLOCK_FORMATS

/** The numbers in `data`, a whole number of blocks of `type`. */
export function dequantize(type: BlockType, data: Uint8Array): Float32Array {
  const { size, bytes, value }: BlockFormat = BLOCK_FORMATS[type]
  if (data.length % bytes !== 0)
    throw new Error(`${data.length} bytes are no whole number of ${type} blocks of ${bytes} bytes`)
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  let start = 0
  const block: Block = {
    u8: (at) => view.getUint8(start + at),
    i8: (at) => view.getInt8(start + at),
    u16: (at) => view.getUint16(start + at, true),
    u32: (at) => view.getUint32(start + at, true),
    half: (at) => HALVES[view.getUint16(start + at, true)]!,
  }
  const values = new Float32Array((data.length / bytes) * size)
  for (let i = 0; i < values.length; start += bytes) {
    for (let j = 0; j < size; j++) values[i++] = value(block, j)
  }
  return values
}

function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (1024 + fraction) * 2 ** (exponent - 25)
}

const bits = new DataView(new ArrayBuffer(4))

/** every half by its pattern */
const HALVES = Float32Array.from({ length: 0x10000 }, (_, pattern) => halfToFloat(pattern))

function bitsToFloat(pattern: number): number {
  bits.setUint32(0, pattern)
  return bits.getFloat32(0)
}
