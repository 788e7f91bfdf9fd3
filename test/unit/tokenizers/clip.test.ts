import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FluxError } from '../../../lib/errors.js'
import { ClipTokenizer } from '../../../lib/tokenizers/clip.js'
import { syntheticClipVocabulary } from '../../../lib/tokenizers/synthetic.js'
import { processorTime } from '../../support/clock.js'

// A vocabulary of our own with the ids that OpenAI's program gives with it (test/golden/README.md); OpenAI's own, which users get with their
// model, is compared as well where it is beside the checkout.
const own = fileURLToPath(new URL('../../golden/clip-bpe-1k', import.meta.url))
const openai = fileURLToPath(new URL('../../../../shared/tokenizers/clip', import.meta.url))
const vocabularies = [{ name: 'our own vocabulary', source: own, texts: 188 }]
if (existsSync(join(openai, 'vocab.json')))
  vocabularies.push({ name: "OpenAI's vocabulary", source: openai, texts: 184 })
else console.log(`OpenAI's CLIP vocabulary is not at ${openai}: its 184 texts are not compared`)

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-clip-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function write(name: string, content: string): string {
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

async function loadingErrorOf(path: string): Promise<FluxError> {
  const result = await ClipTokenizer.load(path).catch((error: unknown) => error)
  expect(result).toBeInstanceOf(FluxError)
  return result as FluxError
}

describe.each(vocabularies)('CLIP tokenizer with $name', ({ source, texts }) => {
  const read = (name: string): string => readFileSync(join(source, name), 'utf8')
  const official = JSON.parse(read('vocab.json')) as Record<string, number>
  const BEGIN = official['<|startoftext|>']!
  const END = official['<|endoftext|>']!
  const tokenizerJson = (split: boolean): string => {
    const merges = read('merges.txt').split('\n').slice(1).filter(Boolean)
    return JSON.stringify({
      model: { type: 'BPE', vocab: official, merges: split ? merges.map((merge) => merge.split(' ')) : merges },
    })
  }
  const formats: [string, () => Promise<ClipTokenizer>][] = [
    ['vocab.json and merges.txt', () => ClipTokenizer.load(source)],
    ['tokenizer.json', () => ClipTokenizer.load(write('whole.json', tokenizerJson(false)))],
    ['tokenizer.json with merges as pairs', () => ClipTokenizer.load(write('pairs.json', tokenizerJson(true)))],
  ]

  test.each(formats)(`${texts} texts give the ids of OpenAI's program, from %s`, async (_, load) => {
    const tokenizer = await load()
    const { cases } = JSON.parse(read('expected.json')) as { cases: { text: string; ids: number[] }[] }
    expect(cases.length).toBe(texts)
    for (const { text, ids } of cases) {
      const whole = tokenizer.encode(text, 512)
      expect([...whole.ids.subarray(0, whole.eos + 1)], text).toEqual([BEGIN, ...ids, END])
      expect(whole.truncated).toBe(false)
      expect(whole.ids.subarray(whole.eos).every((id) => id === END)).toBe(true)

      const short = tokenizer.encode(text)
      expect(short.ids.length).toBe(77)
      expect([...short.ids.subarray(0, short.eos + 1)], text).toEqual([BEGIN, ...ids.slice(0, 75), END])
      expect(short).toMatchObject({ eos: Math.min(ids.length, 75) + 1, truncated: ids.length > 75 })
    }
  })

  test('the end token in a text ends what is pooled; a composed and a decomposed letter are the same', async () => {
    const tokenizer = await ClipTokenizer.load(source)
    const [a, x] = [official['a</w>'], official['x</w>']]
    expect([...tokenizer.encode('a <|endoftext|> x', 6).ids]).toEqual([BEGIN, a, END, x, END, END])
    expect(tokenizer.encode('a <|endoftext|> x').eos).toBe(2)
    expect(tokenizer.encode('cafe\u0301')).toEqual(tokenizer.encode('café'))
    expect(tokenizer.encode('a\u00a0\u2003\tX')).toEqual(tokenizer.encode('A x'))
    expect(tokenizer.encode('\ud800 \u0000').ids.length).toBe(77)
  })

  test('is quick', async () => {
    const tokenizer = await ClipTokenizer.load(source)
    const text = (index: number): string =>
      `a photo number ${index} of a cat holding a sign, `.repeat(50).slice(0, 2000)
    const times = Array.from({ length: 5 }, (_, index) => processorTime(() => tokenizer.encode(text(index))))
    expect(Math.min(...times)).toBeLessThan(20)
  })

  test('the synthetic vocabulary has the bytes where OpenAI has them', () => {
    const { vocab } = syntheticClipVocabulary(600)
    const bytes = Object.entries(vocab).filter(([, id]) => id < 512)
    expect(bytes.length).toBe(512)
    for (const [symbol, id] of bytes) expect(official[symbol], symbol).toBe(id)
  })
})

describe('synthetic CLIP vocabulary', () => {
  test.each([514, 600, 1500])('%i symbols make a tokenizer', (size) => {
    const vocabulary = syntheticClipVocabulary(size)
    expect(Object.values(vocabulary.vocab).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: size }, (_, id) => id),
    )
    expect(vocabulary.vocab).toMatchObject({ '<|startoftext|>': size - 2, '<|endoftext|>': size - 1 })
    const symbols = new Map(Object.entries(vocabulary.vocab).map(([symbol, id]) => [id, symbol]))
    const { ids, eos } = new ClipTokenizer(vocabulary).encode('A  RED circle')
    const words = size === 514 ? ['a</w>', 'r', 'e', 'd</w>', ...'circl', 'e</w>'] : ['a</w>', 'red</w>', 'circle</w>']
    expect([...ids.subarray(0, eos + 1)].map((id) => symbols.get(id))).toEqual([
      '<|startoftext|>',
      ...words,
      '<|endoftext|>',
    ])
  })

  test('refuses impossible sizes', () => {
    for (const size of [513, NaN, 1e9])
      expect(errorOf(() => syntheticClipVocabulary(size))?.code).toBe('FLUX_BAD_OPTION')
  })
})

describe('CLIP tokenizer', () => {
  const small = syntheticClipVocabulary(600)

  test('refuses what is no text or no length', () => {
    const tokenizer = new ClipTokenizer(small)
    for (const text of [undefined, null, 7, ['x'], 'x'.repeat(2 ** 20)]) {
      expect(errorOf(() => tokenizer.encode(text as string))?.code).toBe('FLUX_BAD_OPTION')
    }
    for (const length of [1, 0, 2.5, NaN, 2 ** 31])
      expect(errorOf(() => tokenizer.encode('x', length))?.code).toBe('FLUX_BAD_OPTION')
  })

  test.each([
    ['not JSON', '{'],
    ['a text', '"x"'],
    ['no model', '{}'],
    ['no merges', JSON.stringify({ model: { vocab: small.vocab } })],
    ['a missing end', JSON.stringify({ model: { ...small, vocab: { ...small.vocab, '<|endoftext|>': undefined } } })],
    ['a missing byte', JSON.stringify({ model: { ...small, vocab: { ...small.vocab, Ġ: undefined } } })],
    ['an id twice', JSON.stringify({ model: { ...small, vocab: { ...small.vocab, a: 7 } } })],
    ['an absurd id', JSON.stringify({ model: { ...small, vocab: { ...small.vocab, a: 4e9 } } })],
    ['an id of another type', JSON.stringify({ model: { ...small, vocab: { ...small.vocab, a: '64' } } })],
    ['a foreign merge', JSON.stringify({ model: { ...small, merges: ['q q'] } })],
    ['a merge of three', JSON.stringify({ model: { ...small, merges: [['r', 'e', 'd']] } })],
    ['a merge of another type', JSON.stringify({ model: { ...small, merges: [7] } })],
  ])('refuses a tokenizer.json with %s', async (_, content) => {
    const error = await loadingErrorOf(write('broken.json', content))
    expect(error.code).toBe('FLUX_BAD_FILE')
    expect(error.message).toContain('broken.json')
  })

  test('refuses missing files', async () => {
    expect((await loadingErrorOf(join(folder, 'nowhere'))).code).toBe('FLUX_NOT_FOUND')
    expect((await loadingErrorOf(fileURLToPath(new URL('.', import.meta.url)))).code).toBe('FLUX_NOT_FOUND')
    expect((await loadingErrorOf('')).code).toBe('FLUX_BAD_OPTION')
  })
})
