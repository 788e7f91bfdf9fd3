import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openModelFile } from '../../../lib/formats/open.js'
import { writeModelFile } from '../../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../../lib/formats/file-header.js'
import { readTensors } from '../../support/safetensors.js'
import { bytesSource } from '../../support/model-files.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-model-file-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('openModelFile', () => {
  it.each([
    ['an empty file', '', /the file is empty/],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n', /Git LFS pointer/],
    ['a web page', '\n<!DOCTYPE html>\n<html><head>', /web page/],
    ['a zip archive', 'PK\x03\x04\x00\x00\x08\x08', /zip archive/],
    ['a pickle', '\x80\x02\x8a\nl\xfc\x9cF\xf9', /Python pickle/],
    ['an old ggml file', 'tjgg\x03\x00\x00\x00', /before GGUF/],
    ['a big-endian magic', 'FUGG\x00\x00\x00\x03', /big-endian/],
    ['a JSON text', '{"abcd":{"weight_map": {}}', /JSON text/],
    ['something else', 'hello', /neither a GGUF nor a safetensors file \(5 bytes, beginning with 68656c6c6f\)/],
  ])('tells %s', async (_, text, message) => {
    await expect(openModelFile(bytesSource(Buffer.from(text, 'latin1')))).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringMatching(message),
    })
  })

  it('tells a missing file and a folder', async () => {
    await expect(openModelFile(join(folder, 'none.gguf'))).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringContaining('none.gguf'),
    })
    await expect(openModelFile(folder)).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining('folder'),
    })
  })
})

describe('writeModelFile', () => {
  const bytes = (length: number, first = 0) => Uint8Array.from({ length }, (_, i) => first + i)
  const tensors: TensorSource[] = [
    { name: 'a.weight', type: 'F32', shape: [2, 3], data: bytes(24) },
    { name: 'b', type: 'F16', shape: [5], data: () => [bytes(4, 50), bytes(6, 54)] },
    {
      name: 'c',
      type: 'BF16',
      shape: [1, 1, 2, 2],
      async *data() {
        yield bytes(8, 100)
      },
    },
  ]

  it.each(['gguf', 'safetensors'])('writes .%s files that are read back, whatever they are called', async (suffix) => {
    const written = join(folder, `round.${suffix}`)
    const progress: [number, number][] = []
    await writeModelFile(written, tensors, { 'general.name': 'round' }, (...at) => progress.push(at))
    expect(progress).toEqual([
      [24, 42],
      [28, 42],
      [34, 42],
      [42, 42],
    ])
    const content = readFileSync(written)
    writeFileSync(join(folder, 'renamed.bin'), content)
    const file = await openModelFile(join(folder, 'renamed.bin'))
    expect(file.format).toBe(suffix)
    expect(Object.fromEntries(file.metadata)).toEqual({ 'general.name': 'round' })
    const read = [...file.tensors.values()].map(({ name, type, shape, offset, byteLength }) => ({
      name,
      type,
      shape,
      data: new Uint8Array(content.subarray(offset, offset + byteLength)),
    }))
    expect(read).toEqual([
      { name: 'a.weight', type: 'F32', shape: [2, 3], data: bytes(24) },
      { name: 'b', type: 'F16', shape: [5], data: bytes(10, 50) },
      { name: 'c', type: 'BF16', shape: [1, 1, 2, 2], data: bytes(8, 100) },
    ])
  })

  it('writes safetensors that another reader understands', async () => {
    const path = join(folder, 'other.safetensors')
    await writeModelFile(
      path,
      [{ name: 'x', type: 'F32', shape: [2], data: new Uint8Array(Float32Array.of(1.5, -2).buffer) }],
      { n: 5 },
    )
    expect(readTensors(path)).toEqual(new Map([['x', { shape: [2], data: Float32Array.of(1.5, -2) }]]))
  })

  it('keeps the types of GGUF metadata', async () => {
    const path = join(folder, 'metadata.gguf')
    const metadata = {
      text: '▁a',
      list: ['x', ''],
      flags: [true, false],
      small: 7,
      negative: -7,
      half: 0.5,
      large: 2 ** 40,
      bits: 2n ** 63n,
      ints: [1, -2],
      floats: [0.5, 1],
      bytes: Uint8Array.of(1, 255),
      scores: Float32Array.of(-0.25),
      none: [],
    }
    await writeModelFile(path, [], metadata)
    expect(Object.fromEntries((await openModelFile(path)).metadata)).toEqual({
      ...metadata,
      flags: Uint8Array.of(1, 0),
      ints: Int32Array.of(1, -2),
      floats: Float32Array.of(0.5, 1),
      none: new Uint32Array(),
    })
  })

  it.each([[[['a']]], [['a', 1]], [[true, 'a']]])('refuses the GGUF metadata array %j', async (array) => {
    await expect(writeModelFile(join(folder, 'array.gguf'), [], { array } as never)).rejects.toMatchObject({
      code: 'FLUX_BAD_OPTION',
    })
  })

  it.each<[string, TensorSource[], string, RegExp, string?]>([
    [
      'too little data',
      [{ name: 'x', type: 'F32', shape: [2], data: bytes(4) }],
      'a.gguf',
      /make 8 bytes, only 4 were given/,
      'FLUX_BAD_SHAPE',
    ],
    [
      'too much data',
      [{ name: 'x', type: 'F32', shape: [2], data: bytes(12) }],
      'a.gguf',
      /make 8 bytes, more were given/,
      'FLUX_BAD_SHAPE',
    ],
    ['a name twice', [tensors[0]!, tensors[0]!], 'a.gguf', /"a.weight" is given twice/],
    [
      'half a block',
      [{ name: 'x', type: 'Q4_0', shape: [16], data: bytes(9) }],
      'a.gguf',
      /does not go with type Q4_0/,
    ],
    [
      'blocks in safetensors',
      [{ name: 'x', type: 'Q4_0', shape: [32], data: bytes(18) }],
      'a.safetensors',
      /safetensors has no type Q4_0/,
    ],
    [
      '8-bit floats in GGUF',
      [{ name: 'x', type: 'F8_E4M3', shape: [32], data: bytes(32) }],
      'a.gguf',
      /GGUF has no type F8_E4M3/,
    ],
    ['another suffix', [], 'a.ckpt', /suffix has to be .gguf or .safetensors/],
  ])('refuses %s and leaves nothing behind', async (_, given, name, message, code = 'FLUX_BAD_OPTION') => {
    const before = readdirSync(folder)
    await expect(writeModelFile(join(folder, name), given)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
    expect(readdirSync(folder)).toEqual(before)
  })

  it('keeps the old file when the data fails midway', async () => {
    const path = join(folder, 'kept.gguf')
    writeFileSync(path, 'old')
    const failing: TensorSource = {
      name: 'x',
      type: 'F32',
      shape: [2],
      *data() {
        yield bytes(4)
        throw new Error('source failed')
      },
    }
    await expect(writeModelFile(path, [failing])).rejects.toThrow('source failed')
    expect(readFileSync(path, 'utf8')).toBe('old')
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([])
  })
})
