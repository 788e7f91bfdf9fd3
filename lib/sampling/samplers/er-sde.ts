import { combine, type Term } from './combine.js'
import { intervals } from './intervals.js'
import { belowPureNoise, noiseRatio } from './noise-ratio.js'
import type { SamplerInput, SamplerStep } from './sampler.js'

/** points of the sums that replace integrals, as in the source */
const POINTS = 200

/**
 * ER-SDE-Solver-3: the extended reverse diffusion process, by the estimate of the image and its first two derivatives,
 * with new noise in each step, for rectified flow. The last step returns the estimate of the image.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_er_sde`); Cui et al., arXiv:2309.06169.
 */
export async function* erSde({
  estimate,
  latents,
  sigmas,
  noise,
}: SamplerInput): AsyncGenerator<SamplerStep, void, undefined> {
  let x = latents
  /** estimates of the image in earlier steps, the latest first, and the ratios of noise to image there */
  const known: { denoised: Float32Array; ratio: number }[] = []
  for (const { sigma, next } of intervals(belowPureNoise(sigmas))) {
    const { denoised } = await estimate(x, sigma)
    const [from, to] = [noiseRatio(sigma), noiseRatio(next)]
    known.unshift({ denoised, ratio: from })
    known.length = Math.min(known.length, 3)
    if (next === 0) x = denoised
    else {
      const image = 1 - next
      const kept = noiseScale(to) / noiseScale(from)
      const terms: Term[] = [
        [(image / (1 - sigma)) * kept, x],
        [image * (1 - kept), denoised],
        [image * Math.sqrt(Math.max(0, to ** 2 - (from * kept) ** 2)), noise(sigma, next)],
      ]
      const width = from - to
      const points = Array.from({ length: POINTS }, (_, i) => to + (i * width) / POINTS)
      const integral = (f: (ratio: number) => number) => points.reduce((sum, at) => sum + f(at), 0) * (width / POINTS)
      const [, second, third] = known
      if (second) {
        const first = noiseScale(to) * integral((at) => 1 / noiseScale(at)) - width
        const slope = derivative(known.slice(0, 2))
        terms.push(...slope.map(([factor, values]): Term => [image * first * factor, values]))
      }
      if (second && third) {
        const curved = width ** 2 / 2 + noiseScale(to) * integral((at) => (at - from) / noiseScale(at))
        const over = (2 * image * curved) / (from - third.ratio)
        for (const [factor, values] of derivative(known.slice(0, 2))) terms.push([over * factor, values])
        for (const [factor, values] of derivative(known.slice(1))) terms.push([-over * factor, values])
      }
      x = combine(...terms)
    }
    yield { denoised, latents: x }
  }
}

/** Returns the slope between two estimates, as factors of them. */
function derivative([later, earlier]: { denoised: Float32Array; ratio: number }[]): Term[] {
  const factor = 1 / (later!.ratio - earlier!.ratio)
  return [
    [factor, later!.denoised],
    [-factor, earlier!.denoised],
  ]
}

/** The noise that the process adds, by the ratio of noise to image: SDE_5 of the paper. */
function noiseScale(ratio: number): number {
  return ratio * (Math.exp(ratio ** 0.3) + 10)
}
