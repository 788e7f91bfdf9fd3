import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readGguf } from '../../../lib/formats/gguf/read.js'
import { bytesSource, GgufBuilder } from '../../support/model-files.js'

const reference = fileURLToPath(new URL('../../fixtures/reference.gguf', import.meta.url))
const F32 = 0
const Q8_0 = 8
const UINT32 = 4
const STRING = 8
const ARRAY = 9

describe('readGguf', () => {
  it("reads what llama.cpp's gguf-py wrote", async () => {
    const { metadata, tensors, format } = await readGguf(reference)
    expect(format).toBe('gguf')
    expect(Object.fromEntries(metadata)).toEqual({
      'general.architecture': 'flux',
      'general.name': 'written by gguf-py',
      't.u8': 200,
      't.i8': -100,
      't.u16': 60000,
      't.i16': -30000,
      't.u32': 4000000000,
      't.i32': -2000000000,
      't.f32': 0.5,
      't.bool': true,
      't.u64': 2n ** 63n,
      't.i64': -5,
      't.f64': 0.1,
      't.text': '▁größer',
      't.strings': ['a', '', '▁b'],
      't.ints': Int32Array.of(1, -2, 3),
      't.floats': Float32Array.of(0.5, -1.5),
    })
    const bytes = await import('node:fs').then(({ readFileSync }) => readFileSync(reference))
    expect(
      [...tensors.values()].map(({ name, type, shape, byteLength }) => ({ name, type, shape, byteLength })),
    ).toEqual([
      { name: 'matrix', type: 'F32', shape: [2, 3], byteLength: 24 },
      { name: 'vector', type: 'F16', shape: [5], byteLength: 10 },
      { name: 'blocks', type: 'Q8_0', shape: [2, 32], byteLength: 68 },
    ])
    expect(bytes.readFloatLE(tensors.get('matrix')!.offset + 5 * 4)).toBe(5)
    expect(bytes.readUInt16LE(tensors.get('vector')!.offset + 2)).toBe(0x3c00)
    expect(bytes[tensors.get('blocks')!.offset + 67]).toBe(67)
  })

  it('reads version 2, scalars and an alignment of its own', async () => {
    const builder = new GgufBuilder(1, 1, 2).string('general.alignment').u32(UINT32).u32(8).tensor('s', [], F32, 8)
    const { tensors } = await readGguf(builder.source(64))
    expect(tensors.get('s')).toMatchObject({ shape: [], byteLength: 4 })
    expect(tensors.get('s')!.offset % 8).toBe(0)
  })

  const tensor = (dimensions: (number | bigint)[], type = F32, offset: number | bigint = 0) =>
    new GgufBuilder(1, 0).tensor('x', dimensions, type, offset)
  const entry = () => new GgufBuilder(0, 1).string('k')
  const twice = new GgufBuilder(2, 0).tensor('x', [8], F32, 0).tensor('x', [8], F32, 32)
  const overlap = new GgufBuilder(2, 0).tensor('x', [16], F32, 0).tensor('y', [8], F32, 32)
  const twoKeys = new GgufBuilder(0, 2).string('k').u32(UINT32).u32(1).string('k').u32(UINT32).u32(1)

  it.each<[string, GgufBuilder, RegExp, string?]>([
    ['version 1', new GgufBuilder(0, 0, 1), /version 1; versions 2 and 3/, 'FLUX_UNSUPPORTED'],
    ['a big-endian file', new GgufBuilder(0, 0, 0x03000000), /big-endian/, 'FLUX_UNSUPPORTED'],
    ['more tensors than bytes', new GgufBuilder(2n ** 62n, 0), /number of tensors is 4611686018427387904/],
    ['more metadata than bytes', new GgufBuilder(0, 1000), /number of metadata entries is 1000/],
    ['a key beyond the end', new GgufBuilder(0, 1).u64(1000).u64(0), /key of metadata entry 0 .* needs 1000 bytes/],
    ['a huge string', new GgufBuilder(0, 1).u64(2n ** 63n).u64(0), /string of 9223372036854775808 bytes/],
    ['an empty key', new GgufBuilder(0, 1).string('').u32(UINT32).u32(1), /empty key/],
    ['a key twice', twoKeys, /metadata "k" is there twice/],
    ['an unknown value type', entry().u32(13).u64(0), /unknown value type 13/],
    ['an unknown element type', entry().u32(ARRAY).u32(77).u64(0), /unknown value type 77/],
    [
      'an array beyond the end',
      entry()
        .u32(ARRAY)
        .u32(UINT32)
        .u64(2n ** 61n)
        .u64(0),
      /array of 2305843009213693952 values of type UINT32/,
    ],
    [
      'an array of strings beyond the end',
      entry().u32(ARRAY).u32(STRING).u64(100).u64(0),
      /array of 100 values of type STRING/,
    ],
    ['arrays of arrays', entry().u32(ARRAY).u32(ARRAY).u64(1).u32(UINT32).u64(0), /metadata "k" is an array of arrays/],
    [
      'an alignment of 24',
      new GgufBuilder(0, 1).string('general.alignment').u32(UINT32).u32(24).u64(0),
      /general.alignment is "24"/,
    ],
    ['an alignment of 0', new GgufBuilder(0, 1).string('general.alignment').u32(UINT32).u32(0).u64(0), /power of two/],
    ['a tensor twice', twice, /tensor "x" is there twice/],
    ['overlapping tensors', overlap, /tensors x and y overlap/],
    ['five dimensions', tensor([1, 1, 1, 1, 1]), /5 dimensions; at most 4/],
    ['an empty dimension', tensor([8, 0]), /dimension 1 of tensor "x" is 0/],
    ['a dimension of 2^63', tensor([2n ** 63n]), /dimension 0 of tensor "x" is 9223372036854775808/],
    ['a product beyond 2^53', tensor([2 ** 30, 2 ** 30]), /does not go with type F32 .* or is too large/],
    ['a row of half a block', tensor([48], Q8_0), /shape \[48\] does not go with type Q8_0 \(blocks of 32\)/],
    ['a removed type', tensor([32], 31), /tensor type number 31/, 'FLUX_UNSUPPORTED'],
    ['an odd offset', tensor([2], F32, 4), /no multiple of the alignment 32/],
    ['an offset beyond the end', tensor([2], F32, 2n ** 62n), /begins at byte 4611686018427387904/],
    ['data cut off', tensor([1000]), /tensor x ends at byte \d+. The download is incomplete/],
  ])('refuses %s', async (_, builder, message, code = 'FLUX_BAD_FILE') => {
    await expect(readGguf(builder.source(64))).rejects.toMatchObject({
      name: 'FluxError',
      code,
      message: expect.stringMatching(message),
    })
  })

  it('leaves other work its turn while it reads a large vocabulary', async () => {
    const count = 200_000
    const builder = entry().u32(ARRAY).u32(STRING).u64(count)
    for (let i = 0; i < count; i++) builder.string(`▁token${i}`)
    const source = builder.source()
    const bytes = await source.read(0, source.size)
    let largest = 0
    const pieces = {
      ...bytesSource(bytes),
      async read(offset: number, length: number) {
        largest = Math.max(largest, length)
        await new Promise(setImmediate)
        return bytes.subarray(offset, offset + length)
      },
    }
    let turns = 0
    const timer = setInterval(() => turns++)
    const { metadata } = await readGguf(pieces)
    clearInterval(timer)
    expect((metadata.get('k') as string[]).at(-1)).toBe('▁token199999')
    expect(largest).toBeLessThanOrEqual(256 * 1024)
    expect(turns).toBeGreaterThan(3)
  })
})
