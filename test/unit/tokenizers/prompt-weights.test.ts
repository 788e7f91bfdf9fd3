import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, test } from 'vitest'
import { ClipTokenizer } from '../../../lib/tokenizers/clip.js'
import { applyPromptWeights, parsePromptWeights } from '../../../lib/tokenizers/prompt-weights.js'
import { T5Tokenizer } from '../../../lib/tokenizers/t5.js'

// what ComfyUI's own program gives, by test/golden/prompt-weights/make.py
const golden = (name: string) => fileURLToPath(new URL(`../../golden/${name}`, import.meta.url))
interface Encoded {
  prompt: string
  chunks: [ids: number[], weights: number[]][]
}
const expected = JSON.parse(readFileSync(golden('prompt-weights/expected.json'), 'utf8')) as {
  parsed: { prompt: string; parts: [string, number][] }[]
  clip: Encoded[]
  t5: Encoded[]
  applied: Record<'weights' | 'states' | 'empty' | 'expected' | 'empty_ids', number[]>
}

describe('parsePromptWeights', () => {
  it.each(expected.parsed)('as ComfyUI: $prompt', ({ prompt, parts }) => {
    expect(parsePromptWeights(prompt).map(({ text, weight }) => [text, weight])).toEqual(parts)
  })

  // A1111: [word] decreases the attention by a factor of 1.1
  it.each<[string, [string, number][]]>([
    [
      'a [red] circle',
      [
        ['a ', 1],
        ['red', 1 / 1.1],
        [' circle', 1],
      ],
    ],
    [
      'a [[red]] circle',
      [
        ['a ', 1],
        ['red', 1 / 1.1 / 1.1],
        [' circle', 1],
      ],
    ],
    [
      '[a (red:1.3) circle]',
      [
        ['a ', 1 / 1.1],
        ['red', 1.3],
        [' circle', 1 / 1.1],
      ],
    ],
    [
      '(a [red] circle:1.5)',
      [
        ['a ', 1.5],
        ['red', 1.5 / 1.1],
        [' circle', 1.5],
      ],
    ],
    ['[red:0.5]', [['red:0.5', 1 / 1.1]]],
    ['a \\[red\\] circle', [['a [red] circle', 1]]],
    [
      'a [red circle',
      [
        ['a ', 1],
        ['[red circle', 1],
      ],
    ],
    [
      'a red] (circle)',
      [
        ['a red] ', 1],
        ['circle', 1.1],
      ],
    ],
    ['(a ] b)', [['a ] b', 1.1]]],
  ])('%s', (prompt, parts) => {
    const read = parsePromptWeights(prompt)
    expect(read.map(({ text }) => text)).toEqual(parts.map(([text]) => text))
    read.forEach(({ weight }, i) => expect(weight).toBeCloseTo(parts[i]![1], 12))
  })

  it('reads inf and nan as words', () => {
    for (const word of ['inf', 'nan', 'infinity', '0x10'])
      expect(parsePromptWeights(`(a:${word})`)).toEqual([{ text: `a:${word}`, weight: 1.1 }])
  })

  it.each([
    ['(red:101)', /^prompt gives "red" the weight 101; give one from -100 to 100$/],
    ['(red:-1e9)', /the weight -1000000000/],
    ['(red:1e999)', /the weight Infinity/],
    [`${'('.repeat(60)}red${')'.repeat(60)}`, /prompt gives "red" the weight 304/],
    [`${'['.repeat(16_000)}red${']'.repeat(16_000)}`, /^prompt has brackets nested more than 100 deep/],
  ])('refuses %s', (prompt, message) => {
    expect(() => parsePromptWeights(prompt)).toThrow(
      expect.objectContaining({ code: 'FLUX_BAD_OPTION', message: expect.stringMatching(message) as string }),
    )
  })

  it('reads the longest prompts at once', () => {
    expect(parsePromptWeights('('.repeat(32_768))).toHaveLength(1)
    expect(parsePromptWeights('()'.repeat(16_384))).toEqual([])
    expect(parsePromptWeights('(a)'.repeat(10_000))).toHaveLength(10_000)
  })
})

describe('tokens with weights, as ComfyUI', () => {
  const float32 = (weights: number[]) => weights.map(Math.fround)

  it.each(expected.clip)('CLIP: $prompt', async ({ prompt, chunks }) => {
    const clip = await ClipTokenizer.load(golden('clip-bpe-1k'))
    const found = clip.encodeChunks(parsePromptWeights(prompt))
    expect(found.map(({ ids, weights }) => [[...ids], [...weights]])).toEqual(
      chunks.map(([ids, weights]) => [ids, float32(weights)]),
    )
    for (const { ids, eos } of found) expect(eos).toBe(ids.indexOf(913))
  })

  // ComfyUI pads to 256, and never cuts
  it.each(expected.t5)('T5: $prompt', async ({ prompt, chunks: [[ids, weights]] }) => {
    const t5 = await T5Tokenizer.load(golden('t5-unigram-2k'))
    const parts = parsePromptWeights(prompt)
    const found = t5.encodeParts(parts, 256)
    expect([...found.ids]).toEqual(ids)
    expect([...found.weights]).toEqual(float32(weights))
    expect(found.truncated).toBe(false)

    const length = ids.indexOf(1)
    const cut = t5.encodeParts(parts, length)
    expect([...cut.ids]).toEqual([...ids.slice(0, length - 1), 1])
    expect([...cut.weights]).toEqual([...float32(weights).slice(0, length - 1), 1])
    expect(cut.truncated).toBe(true)
  })

  it('CLIP: a chunk too small for a part of few tokens', async () => {
    const clip = await ClipTokenizer.load(golden('clip-bpe-1k'))
    const whole = clip.encodeChunks([{ text: 'A  RED circle', weight: 2 }])[0].ids.slice(1, 4)
    const found = clip.encodeChunks([{ text: 'A  RED circle', weight: 2 }], 4)
    expect(found.map(({ ids }) => [...ids])).toEqual([
      [912, whole[0], whole[1], 913],
      [912, whole[2], 913, 913],
    ])
  })
})

test("weights act on the distance from the empty prompt's states", () => {
  const { weights, states, empty, expected: out, empty_ids } = expected.applied
  expect(empty_ids).toEqual([1, 0, 0, 0, 0, 0]) // end, then padding
  const found = applyPromptWeights(Float32Array.from(states), Float32Array.from(empty), Float32Array.from(weights))
  found.forEach((value, i) => expect(value).toBeCloseTo(out[i]!, 6))
})
