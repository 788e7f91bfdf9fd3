import { describe, expect, test } from 'vitest'
import { euler, type Predict } from '../../lib/sampling/samplers.js'
import { schedule } from '../../lib/sampling/schedule.js'
import { StepCache } from '../../lib/sampling/step-cache.js'

const sigmas = schedule({ steps: 28, sequenceLength: 4096, scheduler: 'official', shift: true })

/** dx/dsigma = field(sigma) from 0 at sigma 1, with Euler's method; the model counts how often it is asked. */
async function walk(field: (sigma: number) => number[], tolerance?: number): Promise<{ x: Float32Array; asked: number; reused: boolean[] }> {
  let asked = 0
  const model: Predict = async (_, sigma) => {
    asked++
    return Float32Array.from(field(sigma))
  }
  const cache = tolerance === undefined ? undefined : new StepCache(model, tolerance)
  const reused: boolean[] = []
  let x = new Float32Array(field(1).length)
  for await (const step of euler({ predict: cache?.predict ?? model, latents: x, sigmas })) {
    x = step.latents as typeof x
    reused.push(cache?.reused ?? false)
  }
  return { x, asked, reused }
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

  test('never reuses what is not finite, nor with a tolerance below any error', async () => {
    expect((await walk((s) => [Math.exp(3 * s)], 1e-12)).asked).toBe(28)
    const { reused } = await walk((s) => [s > 0.9 ? 1 : NaN], 0.1)
    const first = sigmas.findIndex((sigma) => sigma <= 0.9)
    const seen = first + reused.slice(first).indexOf(false)
    expect(reused.slice(seen)).not.toContain(true)
  })
})
