import { describe, expect, test } from 'vitest'
import { gaussianNoise, gaussianNoiseStream } from '../../../lib/sampling/noise.js'
import { stepNoise } from '../../../lib/sampling/step-noise.js'

const shape = [1, 16, 3, 7]

describe('draws of one generator', () => {
  // torch 1.13 on the CPU: g = torch.Generator().manual_seed(42); torch.randn([1, 16, 3, 7], generator=g), three times
  test.each([
    [
      'float32',
      [
        [1.9269152879714966, 1.4872840642929077, 0.9007171988487244, 0.0826888456940651, 12.04151741869282],
        [0.8853808045387268, 0.1824439913034439, 0.7863810062408447, -1.6682480573654175, -2.4120219232863747],
        [2.129624843597412, -1.5181471109390259, 0.1387282907962799, 0.22690092027187347, -4.5275704697705805],
      ],
      2e-5,
    ],
    [
      'bfloat16',
      [
        [-0.80859375, -1.53125, 0.40625, -2.890625, 22.39487648010254],
        [0.03564453125, 0.12451171875, -1.1796875, 0.6796875, 14.123327255249023],
        [-0.953125, -0.77734375, 1.4453125, -1.3046875, -25.9973087310791],
      ],
      0.05,
    ],
  ] as const)('are those of torch in %s', (variant, expected, tolerance) => {
    const draw = gaussianNoiseStream(42, shape, variant)
    for (const [first, second, third, last, total] of expected) {
      const noise = draw()
      const sum = noise.reduce((sum, value) => sum + value, 0)
      const errors = [noise[0]! - first, noise[1]! - second, noise[2]! - third, noise.at(-1)! - last, sum - total]
      expect(Math.max(...errors.map(Math.abs))).toBeLessThan(tolerance)
    }
  })
})

describe('the noise of steps', () => {
  const noises = (seed: number) => {
    const noise = stepNoise({ seed, shape })
    return [noise(1, 0.8), noise(0.8, 0.5), noise(0.5, 0.2)]
  }

  test('is drawn with the next seed, so that it repeats neither the start nor itself', () => {
    const draw = gaussianNoiseStream(8, shape)
    expect(noises(7)).toEqual([draw(), draw(), draw()])
    const first = [gaussianNoise(7, shape), ...noises(7)].map(([value]) => value)
    expect(new Set(first).size).toBe(4)
    expect(noises(7)).toEqual(noises(7))
  })

  test('the largest seed has a next one', () => {
    expect(noises(Number.MAX_SAFE_INTEGER)[0]).toEqual(gaussianNoise(0, shape))
  })

  test('is brought into the form of the state', () => {
    const noise = stepNoise({
      seed: 7,
      shape,
      variant: 'bfloat16',
      toState: (values) => values.map((value) => 2 * value),
    })
    expect(noise(1, 0.5)).toEqual(gaussianNoise(8, shape, 'bfloat16').map((value) => 2 * value))
  })

  test('of a step contains that of the way to its middle', () => {
    const noise = stepNoise({ seed: 7, shape: [65_536] })
    const [half, whole, other] = [noise(0.9, 0.7), noise(0.9, 0.5), noise(0.5, 0.3)]
    const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0) / a.length
    // increments of a Brownian path: covariance 0.2 of variances 0.2 and 0.4
    expect(product(half, whole)).toBeCloseTo(0.2 / Math.sqrt(0.2 * 0.4), 2)
    for (const values of [half, whole, other]) expect(product(values, values)).toBeCloseTo(1, 1)
    expect(Math.abs(product(whole, other))).toBeLessThan(0.02)
  })
})
