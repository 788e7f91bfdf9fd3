import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { customSigmas, getLinearMu, schedule, timeShift } from '../../../lib/sampling/schedule.js'

interface Schedule {
  num_steps: number
  image_seq_len: number
  shift: boolean
  official: number[]
  official_float64: number[]
  mu?: number
  diffusers_sigmas: number[]
}
interface Shift {
  mu: number
  sigma: number
  t: number
  value_float32: number
  value_float64: number
}

const golden: { schedules: Schedule[]; time_shift: Shift[] } = JSON.parse(
  readFileSync(new URL('../../golden/schedule.json', import.meta.url), 'utf8'),
)

/** float32 rounding of the reference, see the golden README */
const FLOAT32 = 1.2e-7

const worst = (a: ArrayLike<number>, b: number[]) => {
  expect(a.length).toBe(b.length)
  return Math.max(...b.map((value, i) => Math.abs(value - a[i]!)))
}

test.each(golden.schedules)('$num_steps steps, $image_seq_len tokens, shift $shift', (expected) => {
  const options = { steps: expected.num_steps, sequenceLength: expected.image_seq_len, shift: expected.shift }
  const official = schedule(options)
  expect(worst(official, expected.official_float64)).toBeLessThan(1e-14)
  expect(worst(official, expected.official)).toBeLessThanOrEqual(FLOAT32)
  expect(official.at(-1)).toBe(0)
  expect(worst(schedule({ ...options, scheduler: 'diffusers' }), expected.diffusers_sigmas)).toBeLessThanOrEqual(
    FLOAT32,
  )
  if (expected.mu !== undefined) expect(getLinearMu(expected.image_seq_len)).toBeCloseTo(expected.mu, 14)
  const linear = schedule({ ...options, scheduler: 'linear', shift: true })
  if (!expected.shift) expect(worst(linear, expected.official)).toBeLessThanOrEqual(FLOAT32)
})

test.each(golden.time_shift)('timeShift(mu $mu, sigma $sigma, t $t)', ({ mu, sigma, t, value_float64 }) => {
  expect(Math.abs(timeShift(mu, sigma, t) - value_float64)).toBeLessThan(1e-14)
})

test('baseShift and maxShift set mu at 256 and 4096 tokens', () => {
  expect(schedule({ steps: 2, sequenceLength: 4096, baseShift: 0, maxShift: 0 })).toEqual([1, 0.5, 0])
  // exp(mu) = 3: 3 / (3 + 1)
  expect(schedule({ steps: 2, sequenceLength: 777, baseShift: Math.log(3), maxShift: Math.log(3) })[1]).toBeCloseTo(
    0.75,
    14,
  )
})

test('values out of range are refused by name', () => {
  expect(() => schedule({ steps: 0, sequenceLength: 256 })).toThrow(/steps is 0/)
  for (const call of [
    () => schedule(undefined as never),
    () => schedule({ steps: 1, sequenceLength: 256, sigmas: [] } as never),
    () => customSigmas(undefined as never),
  ]) {
    expect(call).toThrow(expect.objectContaining({ name: 'FluxError', code: 'FLUX_BAD_OPTION' }))
  }
  expect(() => schedule({ steps: 1.5, sequenceLength: 256 })).toThrow(/steps is 1.5/)
  expect(() => schedule({ steps: 1, sequenceLength: NaN })).toThrow(/sequenceLength is NaN/)
  expect(() => schedule({ steps: 1, sequenceLength: 256, maxShift: Infinity })).toThrow(/maxShift is Infinity/)
  const error = {
    code: 'FLUX_BAD_OPTION',
    message:
      "scheduler is 'toString': give one of official, diffusers, linear, simple, normal, sgm_uniform, beta, karras, exponential, ddim_uniform, linear_quadratic, kl_optimal, diffusers-karras, diffusers-exponential, diffusers-beta",
  }
  expect(() => schedule({ steps: 1, sequenceLength: 256, scheduler: 'toString' as 'linear' })).toThrow(
    expect.objectContaining(error),
  )
})

test('custom sigmas are checked and end with 0', () => {
  expect(customSigmas([1, 0.5])).toEqual([1, 0.5, 0])
  expect(customSigmas(Float64Array.of(0.9, 0))).toEqual([0.9, 0])
  expect(() => customSigmas([1, 0.5, 0.5])).toThrow(/sigmas\[2\] is 0.5, after 0.5/)
  expect(() => customSigmas([1.5, 1])).toThrow(/sigmas\[0\] is 1.5/)
  expect(() => customSigmas([1, NaN])).toThrow(/sigmas\[1\] is NaN/)
  expect(() => customSigmas([1, 0.5, -0.1])).toThrow(/sigmas\[2\] is -0.1/)
  expect(() => customSigmas([])).toThrow(/sigmas is \[\]/)
  expect(() => customSigmas([0])).toThrow(expect.objectContaining({ code: 'FLUX_BAD_OPTION' }))
})
