import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FluxError } from '../../../lib/errors.js'
import { syntheticT5Vocabulary } from '../../../lib/tokenizers/synthetic.js'
import { T5Tokenizer } from '../../../lib/tokenizers/t5.js'
import { processorTime } from '../../support/clock.js'

const golden = fileURLToPath(new URL('../../golden/t5-unigram-2k', import.meta.url))
const json = <T>(name: string): T => JSON.parse(readFileSync(join(golden, name), 'utf8')) as T
type Case = { text: string; ids: number[] }
const expected = json<{ cases: Case[] }>('expected.json').cases
const hard = json<{ cases: Case[] }>('hard.json').cases
const model = json<{ tokens: string[]; scores: number[]; types: number[]; precompiled_charsmap_base64: string }>(
  'model.json',
)
const spiece = readFileSync(join(golden, 'spiece.model'))
const characterMap = Buffer.from(model.precompiled_charsmap_base64, 'base64')

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-t5-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function tokenizerJson(): Record<string, any> {
  return {
    added_tokens: [0, 1, 2, 3, 4].map((id) => ({ id, content: model.tokens[id], special: true, normalized: false })),
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'Precompiled', precompiled_charsmap: model.precompiled_charsmap_base64 }],
    },
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
    model: { type: 'Unigram', unk_id: 2, vocab: model.tokens.map((token, id) => [token, model.scores[id]]) },
  }
}

function withMap(precompiled_charsmap: unknown): string {
  return JSON.stringify({ ...tokenizerJson(), normalizer: { type: 'Precompiled', precompiled_charsmap } })
}

function metadata(changes: Record<string, unknown> = {}): Map<string, unknown> {
  const entries = {
    model: 't5',
    tokens: model.tokens,
    scores: Float32Array.from(model.scores),
    token_type: Int32Array.from(model.types),
    precompiled_charsmap: new Int8Array(characterMap),
    add_space_prefix: true,
    remove_extra_whitespaces: true,
    eos_token_id: 1,
    padding_token_id: 0n,
    unknown_token_id: 2,
    ...changes,
  }
  return new Map(Object.entries(entries).map(([key, value]) => [`tokenizer.ggml.${key}`, value]))
}

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

function errorOf(action: () => unknown): FluxError | undefined {
  try {
    action()
    return undefined
  } catch (error) {
    expect(error).toBeInstanceOf(FluxError)
    return error as FluxError
  }
}

async function loadingErrorOf(path: string): Promise<FluxError | undefined> {
  const result = await T5Tokenizer.load(path).catch((error: unknown) => error)
  if (result instanceof T5Tokenizer) return undefined
  expect(result).toBeInstanceOf(FluxError)
  return result as FluxError
}

const formats: [string, () => Promise<T5Tokenizer>][] = [
  ['spiece.model', () => T5Tokenizer.load(join(golden, 'spiece.model'))],
  ['a folder', () => T5Tokenizer.load(golden)],
  ['tokenizer.json', () => T5Tokenizer.load(write('tokenizer.json', JSON.stringify(tokenizerJson())))],
  ['GGUF metadata', async () => T5Tokenizer.fromGguf(metadata())],
]

describe.each(formats)('T5 tokenizer from %s', (_, load) => {
  test.each([
    ['prompts', expected, 185],
    ['hard texts', hard, 203],
  ] as const)('%s give the ids of sentencepiece', async (_, cases, count) => {
    const tokenizer = await load()
    expect(cases.length).toBe(count)
    for (const { text, ids } of cases) {
      const result = tokenizer.encode(text, 1024)
      expect([...result.ids.subarray(0, result.length)], JSON.stringify(text)).toEqual([...ids, 1])
      expect(result.ids.subarray(result.length).every((id) => id === 0)).toBe(true)
      expect(result).toMatchObject({ length: ids.length + 1, truncated: false })
    }
  })
})

describe('T5 tokenizer', () => {
  test('a long text loses its end, not the end token', async () => {
    const tokenizer = await T5Tokenizer.load(golden)
    const { text, ids } = expected[0]!
    const length = ids.length
    expect(tokenizer.encode(text, length + 1)).toEqual({
      ids: Int32Array.from([...ids, 1]),
      length: length + 1,
      truncated: false,
    })
    expect(tokenizer.encode(text, length)).toEqual({
      ids: Int32Array.from([...ids.slice(0, -1), 1]),
      length,
      truncated: true,
    })
    expect(tokenizer.encode(text, 1)).toEqual({ ids: Int32Array.from([1]), length: 1, truncated: true })
    expect(tokenizer.encode('', 3)).toEqual({ ids: Int32Array.from([1, 0, 0]), length: 1, truncated: false })
  })

  test('refuses what is no text or no length', async () => {
    const tokenizer = await T5Tokenizer.load(golden)
    for (const text of [undefined, null, 7, {}, 'x'.repeat(2 ** 20)]) {
      expect(errorOf(() => tokenizer.encode(text as string, 512))?.code).toBe('FLUX_BAD_OPTION')
    }
    for (const length of [0, -1, 1.5, NaN, Infinity, '512', undefined]) {
      expect(errorOf(() => tokenizer.encode('x', length as number))?.code).toBe('FLUX_BAD_OPTION')
    }
    // A lone surrogate is no character; like U+FFFD, which the map turns into a space, it must not reach the pieces.
    expect(tokenizer.encode('a\ud800 a', 8).ids).toEqual(tokenizer.encode('a a', 8).ids)
  })

  test('is quick', async () => {
    const tokenizer = await T5Tokenizer.load(golden)
    const text = expected
      .map((one) => one.text)
      .join(' ')
      .slice(0, 2000)
    const times = Array.from({ length: 5 }, () => processorTime(() => tokenizer.encode(text, 512)))
    expect(Math.min(...times)).toBeLessThan(20)
  })

  test.each([
    ['model', 'llama', 'FLUX_UNSUPPORTED'],
    ['model', undefined, 'FLUX_UNSUPPORTED'],
    ['tokens', undefined, 'FLUX_BAD_FILE'],
    ['tokens', [1, 2, 3], 'FLUX_BAD_FILE'],
    ['tokens', model.tokens.slice(1), 'FLUX_BAD_FILE'],
    ['tokens', model.tokens.with(100, model.tokens[101]!), 'FLUX_BAD_FILE'],
    ['tokens', model.tokens.with(100, ''), 'FLUX_BAD_FILE'],
    ['tokens', model.tokens.with(100, 'x'.repeat(100_000)), 'FLUX_BAD_FILE'],
    ['scores', 'none', 'FLUX_BAD_FILE'],
    ['scores', model.scores.with(100, NaN), 'FLUX_BAD_FILE'],
    ['scores', model.scores.with(100, 1e300), 'FLUX_BAD_FILE'],
    ['scores', model.scores.map(String), 'FLUX_BAD_FILE'],
    ['token_type', new Int32Array(2000).fill(3), 'FLUX_BAD_FILE'],
    ['token_type', new Int32Array(2000).fill(4), 'FLUX_BAD_FILE'],
    ['eos_token_id', 2000, 'FLUX_BAD_FILE'],
    ['eos_token_id', -1, 'FLUX_BAD_FILE'],
    ['padding_token_id', 2n ** 63n, 'FLUX_BAD_FILE'],
    ['unknown_token_id', '2', 'FLUX_BAD_FILE'],
    ['add_space_prefix', 1, 'FLUX_BAD_FILE'],
    ['precompiled_charsmap', 'abc', 'FLUX_BAD_FILE'],
    ['precompiled_charsmap', [1, 2], 'FLUX_BAD_FILE'],
    ['precompiled_charsmap', characterMap.subarray(0, 5000), 'FLUX_BAD_FILE'],
    ['precompiled_charsmap', characterMap.subarray(0, characterMap.length - 1), 'FLUX_BAD_FILE'],
    [
      'precompiled_charsmap',
      Buffer.concat([Buffer.from([0, 4, 0, 0]), Buffer.alloc(1024, 0x7f), Buffer.alloc(9)]),
      'FLUX_BAD_FILE',
    ],
  ])('refuses GGUF metadata with a broken %s (%#)', (key, value, code) => {
    const error = errorOf(() => T5Tokenizer.fromGguf(metadata({ [key]: value })))
    expect(error?.code).toBe(code)
    expect(error?.message).toMatch(/(give|fetch|is it) /)
  })

  test('finds the special pieces by their names where a file does not tell the ids', () => {
    const unnamed = metadata({ eos_token_id: undefined, padding_token_id: undefined, unknown_token_id: undefined })
    expect([...T5Tokenizer.fromGguf(unnamed).encode('x', 5).ids]).toEqual([7, 234, 1, 0, 0])
    const missing = metadata({ eos_token_id: undefined, tokens: model.tokens.with(1, '</t>') })
    expect(errorOf(() => T5Tokenizer.fromGguf(missing))).toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining('</s>'),
    })
  })

  test.each([
    ['not JSON', '{"model": ', 'FLUX_BAD_FILE'],
    ['a list', '[1, 2]', 'FLUX_BAD_FILE'],
    ['no model', '{}', 'FLUX_UNSUPPORTED'],
    ['another kind', JSON.stringify({ model: { type: 'BPE', vocab: {} } }), 'FLUX_UNSUPPORTED'],
    ['no pieces', JSON.stringify({ model: { type: 'Unigram', vocab: [] } }), 'FLUX_BAD_FILE'],
    ['pieces without scores', JSON.stringify({ model: { type: 'Unigram', vocab: ['a', 'b'] } }), 'FLUX_BAD_FILE'],
    ['a number too large', JSON.stringify(tokenizerJson()).replace('["s",', '["s",-1e999],["ssss",'), 'FLUX_BAD_FILE'],
    ['a foreign map', withMap({}), 'FLUX_BAD_FILE'],
    ['a broken map', withMap('AAAA'), 'FLUX_BAD_FILE'],
  ])('refuses a tokenizer.json with %s', async (_, content, code) => {
    expect((await loadingErrorOf(write('broken.json', content)))?.code).toBe(code)
  })

  test('refuses missing files and other models', async () => {
    expect((await loadingErrorOf(join(folder, 'nowhere')))?.code).toBe('FLUX_NOT_FOUND')
    expect((await loadingErrorOf(join(golden, '..')))?.code).toBe('FLUX_NOT_FOUND')
    expect((await loadingErrorOf('/dev/null'))?.code).toBe('FLUX_BAD_FILE')
    expect((await loadingErrorOf(7 as unknown as string))?.code).toBe('FLUX_BAD_OPTION')
    // Later fields replace earlier ones: trainer_spec { model_type: BPE } at the end.
    const bpe = Buffer.concat([spiece, Buffer.from([0x12, 2, 0x18, 2])])
    expect((await loadingErrorOf(write('bpe.model', bpe)))?.code).toBe('FLUX_UNSUPPORTED')
    // A field that claims 2^63 bytes.
    const huge = Buffer.concat([spiece, Buffer.from([0x12, ...new Array<number>(9).fill(0xff), 1])])
    expect((await loadingErrorOf(write('huge.model', huge)))?.code).toBe('FLUX_BAD_FILE')
  })

  test('mutated files either load or are refused with an error of ours', async () => {
    const sources: [string, Buffer][] = [
      ['fuzz.model', spiece],
      ['fuzz.json', Buffer.from(JSON.stringify(tokenizerJson()))],
    ]
    let refused = 0
    for (const [name, original] of sources) {
      for (let round = 0; round < 60; round++) {
        const random = mulberry32(round)
        const below = (limit: number): number => Math.floor(random() * limit)
        let bytes = Buffer.from(original)
        // The pieces are at the beginning, the map fills the rest: both get their share.
        const reach = round % 2 ? bytes.length : Math.min(30_000, bytes.length)
        for (let count = 1 + below(8); count > 0; count--) bytes[below(reach)] = below(256)
        if (round % 5 === 0) bytes = bytes.subarray(0, below(bytes.length))
        const path = write(name, bytes)
        const tokenizer = await T5Tokenizer.load(path).catch((error: unknown) => error)
        if (tokenizer instanceof T5Tokenizer) {
          for (const { text } of hard.slice(0, 60)) errorOf(() => tokenizer.encode(text, 64))
        } else {
          expect(tokenizer, `${name}, round ${round}`).toBeInstanceOf(FluxError)
          refused++
        }
      }
    }
    expect(refused).toBeGreaterThan(20)
  })
})

describe('synthetic T5 pieces', () => {
  test.each([98, 512, 2000])('%i pieces make a tokenizer that finds words', (size) => {
    const pieces = syntheticT5Vocabulary(size)
    expect(new Set(pieces.tokens).size).toBe(size)
    expect(pieces.tokens.slice(0, 4)).toEqual(['<pad>', '</s>', '<unk>', '▁'])
    const tokenizer = new T5Tokenizer({
      ...pieces,
      characterMap: undefined,
      addSpacePrefix: true,
      removeExtraWhitespaces: true,
    })
    const { ids, length } = tokenizer.encode('a red  circle, é', 64)
    const found = [...ids.subarray(0, length)].map((id) => pieces.tokens[id])
    const words = size === 98 ? [...'▁a▁red▁circle'] : ['▁a', '▁red', '▁circle']
    expect(found).toEqual([...words, ',', '▁', '<unk>', '</s>'])
  })

  test('refuses impossible sizes', () => {
    for (const size of [97, 0, NaN, 1e9])
      expect(errorOf(() => syntheticT5Vocabulary(size))?.code).toBe('FLUX_BAD_OPTION')
  })
})

function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
