import { describe, expect, it } from 'vitest'
import { BLOCK_FORMATS, type BlockType, dequantize } from '../../support/dequantize.js'

// Half-precision constants: 1 = 0x3c00, 0.5 = 0x3800, 2 = 0x4000, -0.25 = 0xb400.

/** A block of zeros with some bytes set: [offset, bytes…]. */
function block(type: BlockType, ...parts: [at: number, ...bytes: number[]][]): Uint8Array {
  const data = new Uint8Array(BLOCK_FORMATS[type].bytes)
  for (const [at, ...bytes] of parts) data.set(bytes, at)
  return data
}

function at(values: Float32Array, ...indices: number[]): number[] {
  return indices.map((i) => values[i]!)
}

describe('dequantize', () => {
  it('F32', () => {
    expect([...dequantize('F32', new Uint8Array(Float32Array.of(1.5, -3e-20).buffer))]).toEqual([
      1.5,
      Math.fround(-3e-20),
    ])
  })

  it('F16: normal numbers, a subnormal one, the largest, infinity', () => {
    const data = new Uint8Array([0x00, 0x3c, 0x00, 0xb4, 0x01, 0x00, 0xff, 0x7b, 0x00, 0xfc, 0x55, 0x35])
    expect([...dequantize('F16', data)]).toEqual([1, -0.25, 2 ** -24, 65504, -Infinity, 0.333251953125])
  })

  it('BF16', () => {
    expect([...dequantize('BF16', new Uint8Array([0x80, 0x3f, 0x49, 0xc0]))]).toEqual([1, -3.140625])
  })

  it('Q4_0: (nibble - 8) d', () => {
    const values = dequantize('Q4_0', block('Q4_0', [0, 0x00, 0x38], [2, 0xf0], [17, 0x29]))
    // byte 0 = 0xf0: element 0 is 0 - 8, element 16 is 15 - 8; byte 15 = 0x29: element 15 is 9 - 8, element 31 is 2 - 8
    expect(at(values, 0, 16, 15, 31, 1)).toEqual([-4, 3.5, 0.5, -3, -4])
  })

  it('Q4_1: nibble d + m', () => {
    const values = dequantize('Q4_1', block('Q4_1', [0, 0x00, 0x40, 0x00, 0xb4], [4, 0x3a], [19, 0x10]))
    expect(at(values, 0, 16, 15, 31)).toEqual([19.75, 5.75, -0.25, 1.75])
  })

  it('Q5_0: (nibble + 16 fifth bit - 16) d', () => {
    // fifth bits of elements 0, 17 and 31
    const values = dequantize(
      'Q5_0',
      block('Q5_0', [0, 0x00, 0x3c], [2, 0x01, 0x00, 0x02, 0x80], [6, 0x21, 0x43], [21, 0x0f]),
    )
    expect(at(values, 0, 16, 1, 17, 15, 31, 2)).toEqual([1, 2 - 16, 3 - 16, 4, 15 - 16, 0, -16])
  })

  it('Q5_1: (nibble + 16 fifth bit) d + m', () => {
    const values = dequantize(
      'Q5_1',
      block('Q5_1', [0, 0x00, 0x38, 0x00, 0x3c], [4, 0x02, 0x00, 0x01, 0x00], [8, 0x21, 0x43]),
    )
    expect(at(values, 0, 16, 1, 17, 31)).toEqual([1.5, 10, 10.5, 3, 1])
  })

  it('Q8_0: signed byte d', () => {
    const values = dequantize('Q8_0', block('Q8_0', [0, 0x00, 0xb4], [2, 127, 0x80], [33, 4]))
    expect(at(values, 0, 1, 2, 31)).toEqual([-31.75, 32, -0, -1])
  })

  it('Q2_K: d scale q - dmin min, in sub-blocks of 16', () => {
    // elements 16..31: scale 3, minimum 2; elements 160..175 (chunk 1, plane 1, first half: sub-block 10): scale 15, minimum 1
    const values = dequantize(
      'Q2_K',
      block('Q2_K', [1, 0x23], [10, 0x1f], [16 + 17, 0b11100110], [16 + 32 + 5, 0b00001000], [80, 0, 0x3c, 0, 0x38]),
    )
    // byte 17 of chunk 0: planes 2, 1, 2, 3 of elements 17, 49, 81, 113; only sub-block 1 has a scale
    expect(at(values, 17, 16, 49, 165, 160)).toEqual([3 * 2 - 1, -1, 0, 15 * 2 - 0.5, -0.5])
  })

  it('Q3_K: d (scale - 32) (q - 4 unless the third bit is set)', () => {
    // scale 0 = 1 | 2 << 4 = 33, factor 1; scale 9 = 15 | 3 << 4 = 63, factor 31 (high nibble of byte 1, bits 4..5 of byte 8 + 1);
    // scale 14 = 0, factor -32
    const values = dequantize(
      'Q3_K',
      block(
        'Q3_K',
        [0, 0b01000000, 0b00000001],
        [20, 0b00010000],
        [32, 0x02, 0x03],
        [32 + 32, 0b00100000],
        [32 + 32 + 20, 0x01],
        [96, 0x01, 0xf0],
        [104, 0b10, 0b110000],
        [108, 0, 0x40],
      ),
    )
    // element 0: q 2, third bit of plane 0 not set; element 1: q 3, set; element 2: 0 - 4
    expect(at(values, 0, 1, 2)).toEqual([2 * (2 - 4), 2 * 3, 2 * -4])
    // element 148 = chunk 1, plane 0, byte 20, sub-block 9: q 1, third bit of plane 4 set; element 149: neither
    expect(at(values, 148, 149)).toEqual([2 * 31 * 1, 2 * 31 * -4])
    // element 224 = chunk 1, plane 3, byte 0: q 0, plane 7 not set; element 192 = plane 2: q 2, plane 6 set; both with factor -32
    expect(at(values, 224, 192)).toEqual([2 * -32 * -4, 2 * -32 * 2])
  })

  it('Q4_K: d scale q - dmin min, 6-bit scales packed in 12 bytes', () => {
    // sub-block 1: scale 63, minimum 5. Sub-block 6: scale 9 | 2 << 4 = 41 (byte 10 low, byte 2 top), minimum 12 | 1 << 4 = 28 (byte 10
    // high, byte 6 top)
    const scales: [number, ...number[]] = [4, 0, 63, 0b10000000, 0, 0, 5, 0b01000000, 0, 0, 0, 0xc9, 0]
    const values = dequantize(
      'Q4_K',
      block('Q4_K', [0, 0x00, 0x3c, 0x00, 0x38], scales, [16 + 3, 0xa7], [16 + 96 + 31, 0x4d]),
    )
    expect(at(values, 3, 35, 36, 223, 192)).toEqual([0, 63 * 10 - 2.5, -2.5, 41 * 13 - 14, -14])
  })

  it('Q5_K: as Q4_K with fifth bits by planes', () => {
    const scales: [number, ...number[]] = [4, 0, 63, 0b10000000, 0, 0, 5, 0b01000000, 0, 0, 0, 0xc9, 0]
    const values = dequantize(
      'Q5_K',
      block(
        'Q5_K',
        [0, 0x00, 0x3c, 0x00, 0x38],
        scales,
        [16 + 3, 0b10],
        [16 + 31, 0b01000000],
        [48 + 3, 0xa7],
        [48 + 96 + 31, 0x4d],
      ),
    )
    expect(at(values, 3, 35, 36, 223, 192)).toEqual([0, 63 * 26 - 2.5, -2.5, 41 * 29 - 14, -14])
  })

  it('Q6_K: d scale (q - 32), scales signed', () => {
    // element 40: byte 40 low nibble, plane 1 of high byte 8; element 104: byte 40 high nibble, plane 3;
    // element 255: chunk 1, byte 63 high, plane 3 of byte 31
    const values = dequantize(
      'Q6_K',
      block(
        'Q6_K',
        [40, 0x9b],
        [127, 0xf0],
        [128 + 8, 0b11000100],
        [128 + 63, 0b10000000],
        [192, 0, 0, 3, 0, 0, 0, 0x80],
        [192 + 15, 1],
        [208, 0, 0x38],
      ),
    )
    expect(at(values, 40, 104, 255, 32)).toEqual([
      0.5 * 3 * (0x1b - 32),
      0.5 * -128 * (0x39 - 32),
      0.5 * (0x2f - 32),
      0.5 * 3 * -32,
    ])
  })

  it('IQ4_NL: d table[nibble]', () => {
    const values = dequantize('IQ4_NL', block('IQ4_NL', [0, 0x00, 0x38], [2, 0xf8], [17, 0x70]))
    expect(at(values, 0, 16, 15, 31, 1)).toEqual([0.5, 56.5, -63.5, -5, -63.5])
  })

  it('IQ4_XS: d (scale - 32) table[nibble]', () => {
    // sub-block 0: scale 2 | 3 << 4 = 50, factor 18; sub-block 5: scale 7 | 1 << 4 = 23, factor -9; the others: -32
    const values = dequantize(
      'IQ4_XS',
      block('IQ4_XS', [0, 0x00, 0x3c], [2, 0b11, 0b100], [4, 0x02, 0, 0x70], [8 + 1, 0x9e], [8 + 80 + 15, 0xf1]),
    )
    expect(at(values, 1, 17, 175, 191, 32)).toEqual([18 * 89, 18 * 13, -9 * -104, -9 * 113, -32 * -127])
  })

  it('refuses a broken block', () => {
    expect(() => dequantize('Q4_0', new Uint8Array(17))).toThrow('17 bytes')
  })
})
