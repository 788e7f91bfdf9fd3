import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { encodePrompts } from '../../../../lib/families/flux1/conditioning.js'
import type { Encoders, ImageRequest } from '../../../../lib/families/family.js'
import type { Flux1Components } from '../../../../lib/families/flux1/components.js'
import { ClipTokenizer } from '../../../../lib/tokenizers/clip.js'
import { T5Tokenizer } from '../../../../lib/tokenizers/t5.js'

const golden = (name: string) => fileURLToPath(new URL(`../../../golden/${name}`, import.meta.url))
const tokenizers = {
  t5: await T5Tokenizer.load(golden('t5-unigram-2k')),
  clip: await ClipTokenizer.load(golden('clip-bpe-1k')),
}
const WIDTH = 2

/** Encoders whose state is the token id, and its place; they note what they were given. */
function encoders() {
  const seen: { t5: Int32Array[]; clip: { ids: Int32Array; eos: number }[] } = { t5: [], clip: [] }
  const networks = {
    t5: {
      encode: async (ids: Int32Array) => {
        seen.t5.push(ids)
        return Float32Array.from({ length: WIDTH * ids.length }, (_, i) => (i % WIDTH ? i : ids[i / WIDTH]!))
      },
    },
    clip: {
      encode: async (ids: Int32Array, { eos }: { eos: number }) => {
        seen.clip.push({ ids, eos })
        return { pooled: Float32Array.of(eos), hidden: new Float32Array() }
      },
    },
  }
  type Work = (network: never, item: unknown, options: object) => Promise<Float32Array>
  const run = (name: 't5' | 'clip', items: unknown[], work: Work) =>
    Promise.all(items.map((item) => work(networks[name] as never, item, {})))
  return { seen, encoders: { tokenizers, run } as unknown as Encoders<Flux1Components> }
}

const encodePrompt = async (request: ImageRequest, given: Encoders<Flux1Components>) =>
  (await encodePrompts([request], given))[0]!

const request = (change: Partial<ImageRequest>): ImageRequest => ({
  prompt: '',
  width: 64,
  height: 64,
  guidance: undefined,
  maxSequenceLength: 64,
  promptWeights: true,
  sigmas: [1, 0],
  ...change,
})

test('weights act on the states of T5 relative to those of an empty prompt, and not on the output of CLIP', async () => {
  const { seen, encoders: given } = encoders()
  const { tensors, truncated } = await encodePrompt(request({ prompt: 'a photo of (a cat:1.5) x' }), given)
  const [ids, empty] = seen.t5 as [Int32Array, Int32Array]
  expect(seen.t5).toHaveLength(2)
  expect([...empty]).toEqual([1, ...Array(63).fill(0)])
  const [before, weighted] = ['a photo of', 'a cat'].map((text) => tokenizers.t5.encode(text, 64).length - 1)
  const states = [...ids].map((id, i) => {
    const acting = i >= before! && i < before! + weighted!
    return [acting ? (id - empty[i]!) * 1.5 + empty[i]! : id, WIDTH * i + 1]
  })
  expect([...tensors.txt]).toEqual(states.flat())
  expect(seen.clip).toHaveLength(1)
  expect([...seen.clip[0]!.ids]).toEqual([...tokenizers.clip.encode('a photo of a cat x').ids])
  expect([...tensors.vec]).toEqual([seen.clip[0]!.eos])
  expect(truncated).toEqual([])
})

test('without weights an empty prompt is not encoded', async () => {
  for (const prompt of ['a cat', 'a (cat:1)']) {
    const { seen, encoders: given } = encoders()
    await encodePrompt(request({ prompt }), given)
    expect(seen.t5).toHaveLength(1)
  }
})

test('brackets are text, unless weights are asked for', async () => {
  const { seen, encoders: given } = encoders()
  const prompt = 'a (red:1.3) cat'
  await encodePrompt(request({ prompt, promptWeights: false }), given)
  expect(seen.t5).toEqual([tokenizers.t5.encode(prompt, 64).ids])
  expect(seen.clip[0]!.ids).toEqual(tokenizers.clip.encode(prompt).ids)
})

test.each([true, false])(
  'of a long prompt CLIP reads the first chunk, and what it left out is told: %s',
  async (on) => {
    const { seen, encoders: given } = encoders()
    const prompt = 'two blue squares above a green star '.repeat(7)
    const { truncated } = await encodePrompt(request({ prompt, promptWeights: on, maxSequenceLength: 512 }), given)
    expect(truncated).toEqual(['clip'])
    expect(seen.clip).toHaveLength(1)
    expect(seen.clip[0]!.ids).toEqual(tokenizers.clip.encode(prompt).ids)
    expect((await encodePrompt(request({ prompt, promptWeights: on }), given)).truncated).toEqual(['t5', 'clip'])
  },
)
