import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readSafetensors } from '../../../lib/formats/safetensors/read.js'
import { bytesSource, safetensorsSource } from '../../support/model-files.js'

const golden = fileURLToPath(new URL('../../golden/clip-tiny.io.safetensors', import.meta.url))
const x = (entry: Record<string, unknown>) =>
  safetensorsSource({ x: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...entry } }, 8)

describe('readSafetensors', () => {
  it('reads a golden file', async () => {
    const { tensors, size } = await readSafetensors(golden)
    const bytes = readFileSync(golden)
    const begin = 8 + Number(bytes.readBigUInt64LE())
    const header = JSON.parse(bytes.toString('utf8', 8, begin)) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: number[] }
    >
    delete header.__metadata__
    expect(size).toBe(bytes.length)
    expect(
      [...tensors.values()].map(({ name, type, shape, offset, byteLength }) => [name, type, shape, offset, byteLength]),
    ).toEqual(
      Object.entries(header).map(
        ([
          name,
          {
            dtype,
            shape,
            data_offsets: [from, to],
          },
        ]) => [name, dtype, shape, begin + from!, to! - from!],
      ),
    )
  })

  it('allows holes, scalars, empty tensors, escaped names, spaces and sub-byte types', async () => {
    const { tensors, metadata } = await readSafetensors(
      safetensorsSource(
        `{ "__metadata__" : {"a\\"b": "}{,"} , "q\\\\\\"\\u00e4" : {"dtype":"F32","shape":[],"data_offsets":[4,8]},
        "e": {"dtype":"F16","shape":[0, 4],"data_offsets":[0,0]}, "f": {"dtype":"F4","shape":[2,3],"data_offsets":[8,11]} }   `,
        16,
      ),
    )
    expect(Object.fromEntries(metadata)).toEqual({ 'a"b': '}{,' })
    expect([...tensors.keys()]).toEqual(['q\\"ä', 'e', 'f'])
    expect(tensors.get('q\\"ä')).toMatchObject({ shape: [], byteLength: 4 })
  })

  it('reads a file without tensors', async () => {
    expect((await readSafetensors(safetensorsSource('{}'))).tensors.size).toBe(0)
  })

  const entry = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
  const two = {
    x: { dtype: 'U8', shape: [4], data_offsets: [0, 4] },
    y: { dtype: 'U8', shape: [4], data_offsets: [3, 7] },
  }
  const length = Buffer.alloc(64)
  length.writeBigUInt64LE(100_000_001n)
  const long = Buffer.alloc(64)
  long.writeBigUInt64LE(1000n)

  it.each<[string, ReturnType<typeof safetensorsSource>, RegExp, string?]>([
    ['a header beyond 100 MB', bytesSource(length), /says 100000001 bytes; at most 100000000/],
    ['a header beyond the end', bytesSource(long), /header should have 1000 bytes, the whole file has 64/],
    ['a file of 9 bytes', bytesSource(Buffer.alloc(9)), /9 bytes are too few/],
    ['a tensor twice', safetensorsSource(`{"x":${entry},"x":${entry}}`, 1), /tensor "x" is there twice/],
    ['metadata twice', safetensorsSource('{"__metadata__":{},"__metadata__":{}}'), /"__metadata__" is there twice/],
    [
      'a field twice',
      safetensorsSource('{"x":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
      /"dtype" is there twice in "x"/,
    ],
    ['metadata that is no string', safetensorsSource({ __metadata__: { a: 1 } }), /metadata "a" is no string/],
    ['metadata that is no object', safetensorsSource({ __metadata__: 'x' }), /JSON is broken/],
    ['endless spaces', safetensorsSource(`{${' '.repeat(2 ** 20 + 1)}}`), /more than 1048576 spaces/],
    ['cut JSON', safetensorsSource('{"x":{"dtype":"U8","shape":[1'), /JSON is broken/],
    ['text after the header', safetensorsSource('{} x'), /JSON is broken: nothing more expected/],
    ['a broken value', safetensorsSource('{"x":{"dtype":U8}}'), /JSON is broken in "x", "dtype"/],
    ['a list as header entry', safetensorsSource({ x: [1] }), /JSON is broken/],
    ['no dtype', x({ dtype: undefined }), /tensor "x" has no dtype/],
    ['an unknown dtype', x({ dtype: 'F128' }), /unknown dtype "F128"/, 'FLUX_UNSUPPORTED'],
    ["ggml's type as dtype", x({ dtype: 'Q4_0' }), /unknown dtype "Q4_0"/, 'FLUX_UNSUPPORTED'],
    ['a negative dimension', x({ shape: [-2] }), /no list of whole numbers/],
    ['a fraction', x({ shape: [0.5] }), /no list of whole numbers/],
    ['nine dimensions', x({ shape: [1, 1, 1, 1, 1, 1, 1, 1, 2] }), /9 dimensions/],
    ['a huge shape', x({ shape: [2 ** 40, 2 ** 40] }), /too large/],
    ['one offset', x({ data_offsets: [0] }), /no pair of whole numbers/],
    ['offsets that do not fit the shape', x({ data_offsets: [0, 12] }), /make 8 bytes, but data_offsets 0 to 12/],
    ['offsets backwards', x({ data_offsets: [8, 0] }), /make 8 bytes/],
    ['data cut off', x({ shape: [4], data_offsets: [0, 16] }), /tensor x ends at byte \d+. The download is incomplete/],
    ['overlapping tensors', safetensorsSource(two, 8), /tensors x and y overlap/],
  ])('refuses %s', async (_, source, message, code = 'FLUX_BAD_FILE') => {
    await expect(readSafetensors(source)).rejects.toMatchObject({
      name: 'FluxError',
      code,
      message: expect.stringMatching(message),
    })
  })
})
