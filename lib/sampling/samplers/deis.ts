import { linearMultistep } from './linear-multistep.js'

/** Linear noise schedule that runs from ratio 0.002 at time 0.001 to ratio 80 at time 1, as in the source. */
const [LEAST, MOST, START] = [0.002, 80, 1e-3]
const logOf = (ratio: number) => Math.log(ratio ** 2 + 1)
const BETA_RANGE = (2 * (logOf(LEAST) / START - logOf(MOST))) / (START - 1)
const BETA_MIN = logOf(MOST) - BETA_RANGE / 2

/** Returns the time of that schedule at which the ratio of noise to image is `ratio`. */
function timeOf(ratio: number): number {
  return (Math.sqrt(BETA_MIN ** 2 + 2 * BETA_RANGE * logOf(ratio)) - BETA_MIN) / BETA_RANGE
}

/** intervals of Simpson's rule */
const PARTS = 64

/**
 * DEIS: integrates the polynomial in time through up to three directions. The first step is Euler's.
 *
 * The source integrates over time with a sum of 10,000 terms. Its integrand is that of an integral over the noise
 * level, which is taken here with Simpson's rule: the weights differ by less than 1e-6.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_deis`), `comfy/k_diffusion/deis.py`; Zhang, Chen,
 * arXiv:2204.13902.
 */
export const deis = linearMultistep(3, (levels, next) => {
  const times = levels.map(timeOf)
  return times.map((at, j) => {
    const lagrange = (sigma: number): number => {
      const time = timeOf(sigma)
      return times.reduce((product, other, k) => (k === j ? product : (product * (time - other)) / (at - other)), 1)
    }
    return simpson(lagrange, levels[0]!, next)
  })
})

function simpson(f: (x: number) => number, from: number, to: number): number {
  const width = (to - from) / PARTS
  let sum = f(from) + f(to)
  for (let i = 1; i < PARTS; i++) sum += (i % 2 === 1 ? 4 : 2) * f(from + i * width)
  return (sum * width) / 3
}
