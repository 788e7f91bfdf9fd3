import { expect, test } from 'vitest'
import { betaQuantile } from '../../../lib/sampling/schedules/beta-quantile.js'

// scipy 1.17.1: scipy.stats.beta.ppf(p, shape, shape)
test.each([
  [0.6, 0, 0],
  [0.6, 0.001, 1.855873851745199e-5],
  [0.6, 0.05, 0.012554456873611399],
  [0.6, 0.25, 0.17568037865269498],
  [0.6, 0.4, 0.3627009907532143],
  [0.6, 0.5, 0.5],
  [0.6, 0.75, 0.824319621347305],
  [0.6, 0.999, 0.9999814412614826],
  [0.6, 1, 1],
])('Beta(%d, same) at %d is %d', (shape, p, x) => {
  expect(Math.abs(betaQuantile(p, shape) - x)).toBeLessThan(1e-12)
})

test('of the arcsine distribution, it is sin(pi p / 2) ** 2', () => {
  for (let p = 0; p <= 1; p += 1 / 64) expect(betaQuantile(p, 0.5)).toBeCloseTo(Math.sin((Math.PI * p) / 2) ** 2, 12)
})
