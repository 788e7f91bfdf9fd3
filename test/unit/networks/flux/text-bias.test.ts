import { expect, it } from 'vitest'
import { biasRows } from '../../../../lib/networks/flux/text-bias.js'

// ComfyUI's StyleModelApply, twice, on one text token: first an image of 2 tokens at strength 2, then one of 1 token at strength 0.5. The second
// enlarges the first one's mask: rows 0 to 2 get its bias, its own row keeps zeros, also for the first image.
it('biases what comes before a run, and image tokens, as ComfyUI does when it appends images', () => {
  const [a, b] = [Math.fround(Math.log(2)), Math.fround(Math.log(0.5))]
  const rows = biasRows(
    [
      { first: 1, count: 2, strength: 2 },
      { first: 3, count: 1, strength: 0.5 },
    ],
    4,
  )
  expect([...rows!]).toEqual([
    ...[0, a, a, b], // text
    ...[0, 0, 0, b], // first image
    ...[0, 0, 0, b],
    ...[0, 0, 0, 0], // second image
    ...[0, a, a, b], // tokens of the picture
  ])
})

it('is nothing if all strengths are 1', () => {
  expect(biasRows([], 4)).toBeUndefined()
  expect(biasRows([{ first: 0, count: 4, strength: 1 }], 4)).toBeUndefined()
})
