/** terms of the series; at 1/2 each is less than half of the one before */
const TERMS = 60
/** of Newton's method, which doubles the exact digits each time */
const ITERATIONS = 8

/**
 * Returns the quantile of the symmetric beta distribution Beta(shape, shape): the x from 0 to 1 for which the share of
 * values below x is `p`. Equal to scipy.stats.beta.ppf(p, shape, shape) within 1e-12 for shapes from 0.5 to 1.
 */
export function betaQuantile(p: number, shape: number): number {
  if (p === 0.5) return 0.5
  if (p > 0.5) return 1 - betaQuantile(1 - p, shape)
  // half of the values are below 1/2
  const wanted = 2 * p * incompleteBeta(0.5, shape)
  // in u = x ** shape / shape the integral is almost a straight line, with the slope (1 - x) ** (shape - 1)
  const xOf = (u: number) => (shape * u) ** (1 / shape)
  let u = wanted
  for (let i = 0; i < ITERATIONS; i++) {
    const x = xOf(u)
    u -= (incompleteBeta(x, shape) - wanted) / (1 - x) ** (shape - 1)
  }
  return xOf(u)
}

/** Integral of (t (1 - t)) ** (shape - 1) from 0 to x, for x up to about 1/2, by the binomial series of (1 - t) ** (shape - 1). */
function incompleteBeta(x: number, shape: number): number {
  let term = x ** shape
  let sum = 0
  for (let n = 0; n < TERMS; n++) {
    sum += term / (shape + n)
    term *= (x * (n + 1 - shape)) / (n + 1)
  }
  return sum
}
