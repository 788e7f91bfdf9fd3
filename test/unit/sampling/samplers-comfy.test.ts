import { readFileSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import { denoise } from '../../../lib/sampling/denoise.js'
import {
  evaluationsIn,
  SAMPLER_TRAITS,
  SAMPLERS,
  samplerSigmas,
  type SamplerName,
} from '../../../lib/sampling/samplers.js'
import { schedule } from '../../../lib/sampling/schedule.js'
import { collect } from '../../support/async.js'
import { printErrorTable, type ErrorRow } from '../../support/parity.js'

interface Case {
  sampler: string
  steps: number
  sigmas: number[]
  model_calls: { sigma: number; x: number[]; denoised: number[] }[]
  noise_calls?: { sigma: number; sigma_next: number }[]
  final: number[]
  final_float32: number[]
  final_via_KSAMPLER?: number[]
}

interface Golden {
  field: { A: number[][]; b: number[] }
  start_noise: number[]
  noise_table: number[][]
  cases: Case[]
  tolerance: Record<string, number>
}

const read = <T>(file: string): T =>
  JSON.parse(readFileSync(new URL(`../../golden/${file}`, import.meta.url), 'utf8')) as T
const golden = read<Golden>('samplers-comfy.json')
const cases = [...golden.cases, ...read<Golden>('samplers-comfy-er-sde.json').cases].filter(
  ({ sampler }) => sampler in SAMPLERS,
)

/** The golden file's field: denoised = tanh(A x + sigma b). */
const field = (x: Float32Array, sigma: number) =>
  golden.field.A.map((row, i) => Math.tanh(row.reduce((sum, a, j) => sum + a * x[j]!, 0) + sigma * golden.field.b[i]!))

const furthest = (a: ArrayLike<number>, b: readonly number[]) =>
  Math.max(...b.map((value, i) => Math.abs(value - a[i]!)))

async function run(sampler: SamplerName, sigmas: number[]) {
  const calls: { sigma: number; x: Float32Array }[] = []
  const noises: { sigma: number; sigma_next: number }[] = []
  const steps = await collect(
    denoise({
      predict: async (x, sigma) => {
        calls.push({ sigma, x: x.slice() })
        const denoised = field(x, sigma)
        return x.map((value, i) => (value - denoised[i]!) / sigma)
      },
      noise: (sigma, sigma_next) => Float32Array.from(golden.noise_table[noises.push({ sigma, sigma_next }) - 1]!),
      latents: Float32Array.from(golden.start_noise),
      sigmas,
      sampler: SAMPLERS[sampler],
    }),
  )
  return { calls, noises, steps }
}

const rows: ErrorRow[] = []
afterAll(() => printErrorTable("largest difference from ComfyUI's trajectories in float64", rows))

test('every sampler has its trajectories', () => {
  expect(new Set(cases.map(({ sampler }) => sampler))).toEqual(new Set(Object.keys(SAMPLERS)))
})

describe.each(cases)('$sampler, $steps steps, as in ComfyUI', ({ sampler, steps, sigmas, ...expected }) => {
  const name = sampler as SamplerName
  // the named ones are rounding errors of the reference in float32; uni_pc_bh2 has those of uni_pc
  const float32 = golden.tolerance[`${name.replace('_bh2', '')}_float32`] ?? golden.tolerance.float32!
  const tolerance = golden.tolerance.float32!

  test('evaluates the model at the same states, and ends at the same one', async () => {
    const { calls, steps: events } = await run(name, sigmas)
    expect(calls).toHaveLength(expected.model_calls.length)
    calls.forEach(({ sigma, x }, k) => {
      expect(Math.abs(sigma - expected.model_calls[k]!.sigma), `sigma of call ${k}`).toBeLessThan(1e-12)
      expect(furthest(x, expected.model_calls[k]!.x), `state of call ${k}`).toBeLessThan(tolerance)
    })
    expect(events).toHaveLength(steps)
    const { latents } = events.at(-1)!
    rows.push([`${name}, ${steps} steps`, furthest(latents, expected.final), tolerance])
    expect(furthest(latents, expected.final)).toBeLessThan(tolerance)
    expect(furthest(latents, expected.final_float32)).toBeLessThan(float32)
  })

  test('shows the estimate of each step, and a new state', async () => {
    const { calls, steps: events } = await run(name, sigmas)
    for (const { denoised, sigma } of events) {
      const call = calls.filter((call) => Math.abs(call.sigma - sigma) < 1e-4)
      const errors = call.map(({ x, sigma }) => furthest(denoised, field(x, sigma)))
      expect(Math.min(...errors)).toBeLessThan(1e-5)
    }
    expect(new Set(events.map(({ latents }) => latents)).size).toBe(steps)
  })

  test('its traits are right', async () => {
    const { noises, calls } = await run(name, sigmas)
    const wanted = expected.noise_calls ?? []
    expect(noises).toHaveLength(wanted.length)
    noises.forEach(({ sigma, sigma_next }, k) => {
      expect(sigma).toBeCloseTo(wanted[k]!.sigma, 12)
      expect(sigma_next).toBeCloseTo(wanted[k]!.sigma_next, 12)
    })
    expect(SAMPLER_TRAITS[name].addsNoise).toBe(noises.length > 0)
    expect(evaluationsIn(name, steps)).toBe(calls.length)
    const simple = samplerSigmas(name, (n) => schedule({ steps: n, sequenceLength: 4096, scheduler: 'simple' }))
    expect(furthest(simple(steps), sigmas)).toBeLessThan(2e-6)
  })
})

test.each(cases.filter(({ final_via_KSAMPLER }) => final_via_KSAMPLER))(
  "$sampler, $steps steps, is without ComfyUI's factor 1 / 0.999",
  async ({ sampler, sigmas, final_via_KSAMPLER }) => {
    const { steps } = await run(sampler as SamplerName, sigmas)
    const { latents } = steps.at(-1)!
    expect(
      furthest(
        latents,
        final_via_KSAMPLER!.map((value) => 0.999 * value),
      ),
    ).toBeLessThan(2e-4)
    expect(furthest(latents, final_via_KSAMPLER!)).toBeGreaterThan(5e-4)
  },
)

describe.each(Object.keys(SAMPLERS) as SamplerName[])('%s', (sampler) => {
  test.each([
    ['one step', [1, 0]],
    ['one step from below pure noise', [0.3, 0]],
    ['two steps', [1, 0.4, 0]],
    ['levels that fall far below 0.001', [1, 0.1, 0.0006, 0.00003, 0]],
  ])('ends with a finite image: %s', async (_, sigmas) => {
    const { steps } = await run(sampler, sigmas)
    expect(steps).toHaveLength(sigmas.length - 1)
    const { latents, denoised } = steps.at(-1)!
    expect(latents.every(Number.isFinite)).toBe(true)
    // uni_pc stops above 0, so part of the distance is left
    const left = sampler.startsWith('uni_pc') ? 0.5 : 0
    expect(furthest(latents, [...denoised])).toBeLessThan(
      left * furthest(Float32Array.from(golden.start_noise), [...denoised]) + 1e-5,
    )
  })
})

test('a sampler that adds noise asks for it', async () => {
  const events = denoise({
    predict: async (x) => x,
    latents: new Float32Array(1),
    sigmas: [1, 0.5, 0],
    sampler: SAMPLERS.lcm,
  })
  await expect(collect(events)).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: expect.stringContaining('noise'),
  })
})
