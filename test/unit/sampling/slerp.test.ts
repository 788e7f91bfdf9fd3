import { expect, test } from 'vitest'
import { gaussianNoise } from '../../../lib/sampling/noise.js'
import { slerp } from '../../../lib/sampling/slerp.js'

const from = Float32Array.of(0.5, -1.25, 2, 0.75, -0.3)
const to = Float32Array.of(1.5, 0.25, -0.5, 1, 2)

const close = (actual: Float32Array, expected: number[]) =>
  expected.forEach((value, i) => expect(actual[i]).toBeCloseTo(value, 6))

// numpy 2.4.6, with the angle from Gram-Schmidt and arctan2, in float64
test.each([
  [0.1, [0.7419858646675205, -1.2047848796430525, 1.9114013128782403, 0.9097976151182343, 0.026188823168155517]],
  [0.25, [1.066224791168669, -1.0776964769906994, 1.6846177256618446, 1.1031292177120746, 0.5114676134737544]],
  [0.5, [1.4578699186637802, -0.7289349593318901, 1.0934024389978352, 1.2756361788308077, 1.2391894308642133]],
  [0.9, [1.5757778119768129, 0.04590304132088596, -0.1730785553949905, 1.1182456019455573, 1.9439103019795279]],
])('by %d', (amount, expected) => close(slerp(from, to, amount), expected))

test('of vectors of length 1 it is a rotation in their plane', () => {
  const length = (x: Float32Array) => Math.hypot(...x)
  const unit = (x: Float32Array) => x.map((value) => value / length(x))
  // numpy: cos(0.3 w) * from + sin(0.3 w) * the part of `to` across it
  const expected = [
    0.4357084875842281, -0.404883854205704, 0.6307044826102547, 0.43969167989044644, 0.23475574689674122,
  ]
  close(slerp(unit(from), unit(to), 0.3), expected)
})

test('ends at both noises, and keeps their strength in between', () => {
  const [a, b] = [gaussianNoise(1, 4096), gaussianNoise(2, 4096)]
  close(slerp(a, b, 0), [...a])
  close(slerp(a, b, 1), [...b])
  const deviation = (x: Float32Array) => Math.hypot(...x) / Math.sqrt(x.length)
  for (const amount of [0.2, 0.5, 0.8]) expect(deviation(slerp(a, b, amount))).toBeCloseTo(1, 1)
  expect(Math.abs(deviation(slerp(a, b, 0.5)) - deviation(a))).toBeLessThan(0.02)
})

test('between equal, opposite and empty directions it is a straight line', () => {
  close(slerp(from, from, 0.3), [...from])
  close(
    slerp(
      from,
      from.map((value) => -value),
      0.25,
    ),
    [...from.map((value) => value / 2)],
  )
  close(slerp(from, new Float32Array(5), 0.5), [...from.map((value) => value / 2)])
})

test.each([-0.1, 1.1, NaN, '0.5' as never])('amount %s is refused', (amount) => {
  expect(() => slerp(from, to, amount)).toThrow(expect.objectContaining({ code: 'FLUX_BAD_OPTION' }))
})

test('arrays of different lengths are refused', () => {
  expect(() => slerp(from, new Float32Array(4), 0.5)).toThrow(expect.objectContaining({ code: 'FLUX_BAD_SHAPE' }))
})
