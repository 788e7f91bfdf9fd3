import { expect, test } from 'vitest'
import { enlargeLatent } from '../../../lib/images/enlarge-latent.js'

const close = (values: Float32Array, expected: number[]) => {
  expect(values).toHaveLength(expected.length)
  expected.forEach((value, i) => expect(values[i]).toBeCloseTo(value, 5))
}

test('twice, by hand: a quarter and three quarters of the way, and the edges repeated', () => {
  const [a, b] = [0, 0.25]
  const row = [a, 0.25 * b, 0.75 * b, b]
  const rows = [0, 0.25, 0.75, 1].map((y) => row.map((x) => x + y))
  close(enlargeLatent(Float32Array.of(0, 0.25, 1, 1.25), [2, 2], [4, 4]), rows.flat())
})

// expected: cv2.resize(…, INTER_LINEAR) of OpenCV 4.6
test('by fractions, several channels', () => {
  const one = Float32Array.from({ length: 15 }, (_, i) => (i * 7) % 11)
  const expected = [
    0, 4, 5.857143, 3, 7.999999, 8.285714, 6, 1.25, 5.25, 7.107142, 4.25, 4.339285, 5.607143, 7.25, 2.75, 4.392858,
    5.660714, 5.75, 2.892858, 4.75, 8.75, 4, 1.714286, 2, 7, 4.142858, 6, 10,
  ]
  close(enlargeLatent(one, [3, 5], [4, 7]), expected)
  const two = Float32Array.of(...one, ...one.map((value) => -value))
  close(enlargeLatent(two, [3, 5], [4, 7]), [...expected, ...expected.map((value) => -value)])
})

test('of another aspect, the middle', () => {
  const latent = Float32Array.from({ length: 24 }, (_, i) => (i * 5) % 13)
  const first = [1, 2.25, 4.75, 7.25, 9.75, 9, 5, 3]
  const last = [8, 6, 2, 1.25, 3.75, 6.25, 8.75, 10]
  // rows 2 and 3 of 6
  const enlarged = enlargeLatent(latent, [6, 4], [6, 8])
  close(enlarged.subarray(0, 8), first)
  close(enlarged.subarray(40), last)
  const turned = (values: Float32Array, rows: number, columns: number) =>
    Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!)
  close(enlargeLatent(turned(latent, 6, 4), [4, 6], [8, 6]), [...turned(enlarged, 6, 8)])
})
