import { describe, expect, test } from 'vitest'
import { denoise } from '../../../lib/sampling/denoise.js'
import { euler, type Predict, type Sampler } from '../../../lib/sampling/samplers.js'
import { schedule } from '../../../lib/sampling/schedule.js'
import { StepCache } from '../../../lib/sampling/step-cache.js'

const sigmas = schedule({ steps: 28, sequenceLength: 4096, scheduler: 'official', shift: true })

/** dx/dsigma = field(sigma, x) from 0 at sigma 1; the model counts how often it is asked. */
async function walk(
  field: (sigma: number, x: Float32Array) => number[],
  tolerance?: number,
  sampler: Sampler = euler,
): Promise<{ x: Float32Array; asked: number; reused: boolean[] }> {
  let asked = 0
  const model: Predict = async (x, sigma) => {
    asked++
    return Float32Array.from(field(sigma, x))
  }
  const cache = tolerance === undefined ? undefined : new StepCache(model, tolerance)
  const reused: boolean[] = []
  let x = new Float32Array(field(1, new Float32Array(3)).length)
  let before = 0
  for await (const step of denoise({ predict: cache?.predict ?? model, latents: x, sigmas, sampler })) {
    x = step.latents as typeof x
    reused.push(asked === before)
    before = asked
  }
  return { x, asked, reused }
}

const moved = (x: Float32Array, velocity: Float32Array, by: number) => x.map((value, i) => value + by * velocity[i]!)

/** Heun's method: two velocities at each inner noise level. */
const heun: Sampler = async function* ({ estimate, latents, sigmas }) {
  for (let i = 0, x = latents; i + 1 < sigmas.length; i++) {
    const by = sigmas[i + 1]! - sigmas[i]!
    const { denoised, derivative } = await estimate(x, sigmas[i]!)
    const next = moved(x, derivative, by)
    const end = sigmas[i + 1]! > 0 ? (await estimate(next, sigmas[i + 1]!)).derivative : derivative
    x = moved(
      x,
      derivative.map((value, j) => (value + end[j]!) / 2),
      by,
    )
    yield { denoised, latents: x }
  }
}

/** Euler's method, which goes back once to where it came from, to another state: restart sampling. */
const restart: Sampler = async function* ({ estimate, latents, sigmas, noise }) {
  yield* euler({ estimate, latents, sigmas: sigmas.slice(0, 12), noise })
  yield* euler({ estimate, latents: latents.map((value) => value + 5), sigmas: sigmas.slice(4), noise })
}

describe('the step cache', () => {
  test('continues a parabola without error after four evaluations, four times in a row', async () => {
    const field = (s: number) => [1 + 2 * s, 3 * s * s - s, -2]
    const [all, some] = [await walk(field), await walk(field, 1e-3)]
    expect(all.asked).toBe(28)
    expect(some.reused).toEqual(Array.from({ length: 28 }, (_, i) => i >= 4 && (i - 4) % 5 < 4))
    expect(some.asked).toBe(8)
    some.x.forEach((value, i) => expect(value).toBeCloseTo(all.x[i]!, 5))
  })

  // The field does not depend on x, so the errors of the velocities add up to at most tolerance times length times the way from 1 to 0; the
  // foreseen error is an estimate, for which 2 is allowed.
  test.each([0.003, 0.01, 0.03, 0.1])('keeps the error that is allowed: %d', async (tolerance) => {
    const field = (s: number) => [Math.cos(4 * s), Math.sin(4 * s)]
    const [all, some] = [await walk(field), await walk(field, tolerance)]
    expect(some.asked).toBeLessThan(28)
    expect(Math.hypot(...some.x.map((value, i) => value - all.x[i]!))).toBeLessThan(2 * tolerance)
  })

  test('notices within five steps that a straight velocity turns, and then asks at every step until it is smooth', async () => {
    const { reused } = await walk((s) => [s > 0.6 ? 1 : 1 + 5 * (0.6 - s)], 0.01)
    const turn = sigmas.findIndex((sigma) => sigma < 0.6)
    const noticed = turn + reused.slice(turn).indexOf(false)
    expect(noticed - turn).toBeLessThanOrEqual(4)
    expect(reused.slice(noticed, noticed + 3)).toEqual([false, false, false])
  })

  test.each([
    ["Heun's method", heun, 55],
    ['restart sampling', restart, 11 + 24],
  ] as const)('asks every time where no error is allowed: %s', async (_, sampler, evaluations) => {
    const field = (s: number, x: Float32Array) => [Math.cos(4 * s) + (x[0] ?? 0), Math.sin(4 * s) - (x[1] ?? 0)]
    const [all, some] = [await walk(field, undefined, sampler), await walk(field, 1e-9, sampler)]
    expect([all.asked, some.asked]).toEqual([evaluations, evaluations])
    expect(some.x).toEqual(all.x)
  })

  test("saves evaluations of Heun's method as well, and keeps the error that is allowed", async () => {
    const field = (s: number, x: Float32Array) => [Math.cos(4 * s) - (x[0] ?? 0), Math.sin(4 * s) - (x[1] ?? 0)]
    const [all, some] = [await walk(field, undefined, heun), await walk(field, 0.05, heun)]
    expect(some.asked).toBeLessThan(45)
    expect(Math.hypot(...some.x.map((value, i) => value - all.x[i]!))).toBeLessThan(2 * 0.05)
  })

  test('never reuses what is not finite, nor with a tolerance below any error', async () => {
    expect((await walk((s) => [Math.exp(3 * s)], 1e-12)).asked).toBe(28)
    const { reused } = await walk((s) => [s > 0.9 ? 1 : NaN], 0.1)
    const first = sigmas.findIndex((sigma) => sigma <= 0.9)
    const seen = first + reused.slice(first).indexOf(false)
    expect(reused.slice(seen)).not.toContain(true)
  })
})
