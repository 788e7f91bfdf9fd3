import { expect, it } from 'vitest'
import { toBFloat16, toFloat16 } from '../../../lib/formats/float16.js'
import { dequantize } from '../../support/dequantize.js'

// patterns from the examples and limits of IEEE 754 binary16
it('float16: normal, subnormal, rounded and infinite numbers', () => {
  const table: [number, number][] = [
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [1 / 3, 0x3555],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [1023 * 2 ** -24, 0x03ff],
    [-(2 ** -24), 0x8001],
    [2 ** -25, 0x0000],
    [1.5 * 2 ** -24, 0x0002],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [2 - 2 ** -12, 0x4000],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-1e30, 0xfc00],
    [Infinity, 0x7c00],
    [NaN, 0x7e00],
  ]
  expect([...toFloat16(Float32Array.from(table, ([value]) => value))]).toEqual(table.map(([, pattern]) => pattern))
})

it('bfloat16: ties go to the even pattern, a carry raises the exponent', () => {
  const table: [number, number][] = [
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3f80],
    [-3.140625, 0xc049],
    [1 + 2 ** -8, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3f82],
    [2 - 2 ** -10, 0x4000],
    [3.3895313892515355e38, 0x7f7f],
    [3.4e38, 0x7f80],
    [-Infinity, 0xff80],
    [NaN, 0x7fc0],
  ]
  expect([...toBFloat16(Float32Array.from(table, ([value]) => value))]).toEqual(table.map(([, pattern]) => pattern))
})

it('every finite half comes back as it was', () => {
  const patterns = Uint16Array.from({ length: 0x10000 }, (_, i) => i).filter((p) => (p & 0x7c00) !== 0x7c00)
  expect(toFloat16(dequantize('F16', new Uint8Array(patterns.buffer)))).toEqual(patterns)
})
