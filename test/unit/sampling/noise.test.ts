import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { gaussianNoise } from '../../../lib/sampling/noise.js'
import { processorTime } from '../../support/clock.js'

interface Case {
  dtype: 'f32' | 'bf16'
  seed: string
  h: number
  w: number
  first: number[]
  last: number[]
  mean: number
  norm: number
}

const { cases }: { cases: Case[] } = JSON.parse(
  readFileSync(new URL('../../golden/noise.json', import.meta.url), 'utf8'),
)

// torch starts from the low 32 bits; the largest golden seed does not fit into a number
const seedOf = (text: string) =>
  Number(BigInt(text) > BigInt(Number.MAX_SAFE_INTEGER) ? BigInt.asUintN(32, BigInt(text)) : BigInt(text))

const float32Cases = cases.filter(({ dtype }) => dtype === 'f32')
test.each(float32Cases)('float32 noise is torch.randn: seed $seed, 16 x $h x $w', ({ seed, h, w, ...expected }) => {
  const noise = gaussianNoise(seedOf(seed), [16, h, w])
  expect(noise.length).toBe(16 * h * w)
  const ends = [...noise.subarray(0, 40), ...noise.subarray(-20)]
  const worst = Math.max(...[...expected.first, ...expected.last].map((value, i) => Math.abs(value - ends[i]!)))
  expect(worst).toBeLessThanOrEqual(1e-5)
  // the middle of the tensor, too: figures over all values
  expect(Math.hypot(...noise)).toBeCloseTo(expected.norm, 3)
  expect(noise.reduce((sum, x) => sum + x, 0) / noise.length).toBeCloseTo(expected.mean, 6)
})

test('bfloat16 noise is torch.randn in bfloat16', () => {
  let equal = 0
  let total = 0
  for (const { seed, h, w, first, last, mean } of cases.filter(({ dtype }) => dtype === 'bf16')) {
    const noise = gaussianNoise(seedOf(seed), [16, h, w], 'bfloat16')
    const ends = [...noise.subarray(0, 40), ...noise.subarray(-20)]
    equal += [...first, ...last].filter((value, i) => value === ends[i]).length
    total += ends.length
    expect(noise.reduce((sum, x) => sum + x, 0) / noise.length).toBeCloseTo(mean, 3)
  }
  expect(total).toBe(960)
  expect(equal / total).toBeGreaterThanOrEqual(0.999)
})

test('a count and a shape of as many values give the same noise', () => {
  expect(gaussianNoise(7, 16 * 4 * 6)).toEqual(gaussianNoise(7, [16, 4, 6]))
})

test('only the low 32 bits of the seed count', () => {
  expect(gaussianNoise(2 ** 32 + 42, 64)).toEqual(gaussianNoise(42, 64))
  expect(gaussianNoise(43, 64)).not.toEqual(gaussianNoise(42, 64))
})

test('noise for 1024 x 1024 takes milliseconds', () => {
  gaussianNoise(0, 262_144)
  const elapsed = processorTime(() => gaussianNoise(1, [16, 128, 128]))
  console.log(`262,144 values: ${elapsed.toFixed(1)} ms`)
  expect(elapsed).toBeLessThan(200)
})

test.each([-1, 0.5, NaN, 2 ** 53, Infinity])('seed %s is refused', (seed) => {
  const error = { code: 'FLUX_BAD_OPTION', message: expect.stringContaining(`seed is ${seed}`) }
  expect(() => gaussianNoise(seed, 64)).toThrow(expect.objectContaining(error))
})

test('shapes and variants out of range are refused', () => {
  expect(() => gaussianNoise(0, 15)).toThrow(/15 values/)
  expect(() => gaussianNoise(0, [16, 0, 4])).toThrow(/at least 16/)
  expect(() => gaussianNoise(0, 64, 'float16' as 'float32')).toThrow(/'float16': give one of float32, bfloat16/)
})
