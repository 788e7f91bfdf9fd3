import { combine, type Term } from './combine.js'
import { intervals } from './intervals.js'
import type { Sampler } from './sampler.js'

/** an estimate of the image, and the noise level it was made at */
interface Known {
  sigma: number
  denoised: Float32Array
}

/** The noise level that replaces 0, whose logarithm is infinite. */
const LAST = 0.001
const MOST_ORDER = 3

/**
 * UniPC with B(h) = h (`bh1`) or e^h - 1 (`bh2`), order 3, lower at both ends. It predicts the state at the next level,
 * and corrects it there with the model's new estimate, so each step has one evaluation.
 *
 * ComfyUI divides the result of a flow model by 1 - 0.001, because the level that replaces 0 overwrites the caller's;
 * here it is not divided. With a single step ComfyUI returns the noise, and this sampler takes a step of first order.
 * Where the level before 0 is below 0.001, ComfyUI goes up to 0.001; here the last level is half of the one before.
 *
 * Source: Comfy-Org/ComfyUI `comfy/extra_samplers/uni_pc.py`; Zhao et al., arXiv:2302.04867.
 */
export function uniPc(variant: 'bh1' | 'bh2'): Sampler {
  return async function* ({ estimate, latents, sigmas }) {
    const steps = sigmas.length - 1
    const order = Math.min(MOST_ORDER, Math.max(1, steps - 1))
    const orderTo = (level: number): number => Math.min(order, level, steps + 1 - level)
    let corrected = latents
    let x = latents
    let known: Known[] = []
    for (const { index, sigma, next } of intervals(withoutZero(sigmas))) {
      const { denoised } = await estimate(x, sigma)
      const here = { sigma, denoised }
      if (index > 0) corrected = step(variant, corrected, known.slice(0, orderTo(index)), sigma, here)
      known = [here, ...known].slice(0, MOST_ORDER)
      x = step(variant, corrected, known.slice(0, orderTo(index + 1)), next)
      yield { denoised, latents: x }
    }
  }
}

function withoutZero(sigmas: readonly number[]): number[] {
  const before = sigmas.at(-2)!
  return sigmas.map((sigma) => (sigma > 0 ? sigma : before > LAST ? LAST : before / 2))
}

/**
 * @param x the state at known[0].sigma
 * @param known estimates, the latest first, as many as the order
 * @param there the estimate at `next`, to correct with
 */
function step(variant: 'bh1' | 'bh2', x: Float32Array, known: Known[], next: number, there?: Known): Float32Array {
  const [latest, ...earlier] = known as [Known, ...Known[]]
  const width = Math.log(latest.sigma / next)
  // levels of the other estimates in units of the step, from the latest; `next` is at 1
  const others = there ? [...earlier, there] : earlier
  const places = others.map(({ sigma }) => Math.log(latest.sigma / sigma) / width)
  const phi1 = Math.expm1(-width)
  const scale = variant === 'bh1' ? -width : phi1
  const weights = weightsOf(places, -width, scale)
  const differences = weights.map((weight, k) => (scale * weight) / places[k]!)
  const terms = others.map(({ denoised }, k): Term => [-differences[k]!, denoised])
  const sum = differences.reduce((sum, difference) => sum + difference, 0)
  return combine([next / latest.sigma, x], [sum - phi1, latest.denoised], ...terms)
}

/** Solves the conditions of order: sum over k of weight[k] * places[k] ** i = b[i]. A single weight is 1/2. */
function weightsOf(places: readonly number[], h: number, scale: number): number[] {
  if (places.length < 2) return places.map(() => 0.5)
  const b: number[] = []
  let phi = Math.expm1(h) / h - 1
  let factorial = 1
  for (let i = 1; i <= places.length; i++) {
    b.push((phi * factorial) / scale)
    factorial *= i + 1
    phi = phi / h - 1 / factorial
  }
  return solve(
    places.map((_, i) => places.map((place) => place ** i)),
    b,
  )
}

/** Solves a linear system by Gaussian elimination with pivots. */
function solve(matrix: number[][], right: number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!])
  rows.forEach((_, i) => {
    const pivot = rows.slice(i).reduce((best, row) => (Math.abs(row[i]!) > Math.abs(best[i]!) ? row : best))
    const at = rows.indexOf(pivot)
    ;[rows[i], rows[at]] = [pivot, rows[i]!]
    rows.forEach((row, k) => {
      const factor = row[i]! / pivot[i]!
      if (k !== i) rows[k] = row.map((value, j) => value - factor * pivot[j]!)
    })
  })
  return rows.map((row, i) => row[rows.length]! / row[i]!)
}
