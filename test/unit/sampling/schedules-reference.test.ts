import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { samplerSigmas, type SamplerName } from '../../../lib/sampling/samplers.js'
import { schedule, SCHEDULERS, type SchedulerName } from '../../../lib/sampling/schedule.js'
import { sigmasAtStrength } from '../../../lib/sampling/strength.js'

type Lists = Record<string, Record<string, (number | null)[]>>

const golden = JSON.parse(readFileSync(new URL('../../golden/schedulers-comfy.json', import.meta.url), 'utf8')) as {
  comfy: {
    tables: Record<string, { schedulers: Lists }>
    schnell: { schedulers: Lists }
    ksampler: {
      cases: { sampler: SamplerName; scheduler: SchedulerName; steps: number; denoise: number; sigmas: number[] }[]
    }
  }
  diffusers: {
    mu: Record<string, number>
    lists: Record<'plain' | 'karras' | 'exponential' | 'beta', Lists>
    img2img: { cases: { steps: number; strength: number; t_start: number; steps_run: number; sigmas: number[] }[] }
  }
}

/** The file's tolerance, for values up to 1. */
const TOLERANCE = 2e-6

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length)
  const errors = expected.map((sigma, i) => Math.abs(sigma - actual[i]!))
  expect(Math.max(...errors)).toBeLessThanOrEqual(TOLERANCE)
}

const listsOf = (schedulers: Lists) =>
  Object.entries(schedulers).flatMap(([scheduler, lists]) =>
    Object.entries(lists).map(([steps, sigmas]) => [scheduler as SchedulerName, Number(steps), sigmas] as const),
  )

const atMu = (mu: number) => ({ sequenceLength: 777, baseShift: mu, maxShift: mu })

/** ComfyUI's list without its two faults: it starts below pure noise, and with a level that is no number. */
const corrected = (sigmas: readonly (number | null)[]) => [1, ...(sigmas.slice(1) as number[])]

describe.each(Object.entries(golden.comfy.tables))('as in ComfyUI at mu %s', (mu, { schedulers }) => {
  test.each(listsOf(schedulers))('%s, %i steps', (scheduler, steps, sigmas) => {
    expectClose(schedule({ steps, scheduler, ...atMu(Number(mu)) }), corrected(sigmas))
  })
})

test.each(listsOf(golden.comfy.schnell.schedulers))(
  'as in ComfyUI for schnell: %s, %i steps',
  (scheduler, steps, sigmas) => {
    expectClose(schedule({ steps, scheduler, sequenceLength: 4096, shift: false }), corrected(sigmas))
  },
)

test("ComfyUI's lists start where ours do, except for ddim_uniform and the single step of kl_optimal", () => {
  const others = Object.values(golden.comfy.tables).flatMap(({ schedulers }) =>
    listsOf(schedulers).filter(([, , [first]]) => !(Math.abs((first ?? 0) - 1) < TOLERANCE)),
  )
  expect(
    new Set(others.map(([scheduler, steps]) => (scheduler === 'ddim_uniform' ? scheduler : `${scheduler} ${steps}`))),
  ).toEqual(new Set(['ddim_uniform', 'kl_optimal 1']))
})

describe.each(Object.entries(golden.diffusers.lists))('as in diffusers: %s', (kind, lists) => {
  const scheduler: SchedulerName = kind === 'plain' ? 'diffusers' : `diffusers-${kind as 'karras'}`
  const cases = Object.entries(lists).flatMap(([where, bySteps]) =>
    Object.entries(bySteps).map(([steps, sigmas]) => [where, Number(steps), sigmas as number[]] as const),
  )
  test.each(cases)('%s, %i steps', (where, steps, sigmas) => {
    const size = where.startsWith('tokens_')
      ? { sequenceLength: Number(where.slice('tokens_'.length)) }
      : atMu(golden.diffusers.mu[where]!)
    expectClose(schedule({ steps, scheduler, ...size }), sigmas)
  })
})

test("the shift 'comfyui' does not depend on the size", () => {
  const simple = { steps: 4, scheduler: 'simple' } as const
  const [dev] = Object.values(golden.comfy.tables['1.15']!.schedulers.simple!).filter((sigmas) => sigmas.length === 5)
  for (const sequenceLength of [256, 1024, 4096, 9000])
    expectClose(schedule({ ...simple, sequenceLength, shift: 'comfyui' }), dev as number[])
  // by size, as in diffusers
  expectClose(schedule({ ...simple, sequenceLength: 1024 }), [1, 0.849235, 0.652489, 0.384945, 0])
})

const STEPS = [1, 2, 3, 5, 7, 28, 100, 357, 999]
describe.each(Object.keys(SCHEDULERS) as SchedulerName[])('%s', (scheduler) => {
  test.each([true, false, 'comfyui'] as const)('keeps the number of steps, from 1 down to 0, shift %s', (shift) => {
    for (const sequenceLength of [16, 1024, 65536]) {
      for (const steps of STEPS) {
        const sigmas = schedule({ steps, scheduler, sequenceLength, shift })
        expect([sigmas.length, sigmas[0], sigmas.at(-1)]).toEqual([steps + 1, 1, 0])
        expect(sigmas.slice(1).every((sigma, i) => sigma < sigmas[i]!)).toBe(true)
      }
    }
  })
})

test('more steps than levels are refused', () => {
  expect(() => schedule({ steps: 1001, sequenceLength: 256, scheduler: 'simple', shift: false })).toThrow(
    "steps is 1001: give fewer, because scheduler 'simple' has less than 1001 different levels",
  )
})

test.each(golden.comfy.ksampler.cases.filter(({ denoise }) => denoise > 0))(
  'as KSampler: $sampler, $scheduler, $steps steps, denoise $denoise',
  ({ sampler, scheduler, steps, denoise, sigmas }) => {
    const sigmasOf = samplerSigmas(sampler, (n) =>
      schedule({ steps: n, scheduler, sequenceLength: 256, shift: 'comfyui' }),
    )
    expectClose(sigmasAtStrength(sigmasOf, steps, denoise, 'comfyui'), sigmas)
  },
)

test.each(golden.diffusers.img2img.cases.filter(({ steps_run }) => steps_run > 0))(
  'as FluxImg2ImgPipeline: $steps steps, strength $strength',
  ({ steps, strength, t_start, steps_run, sigmas }) => {
    const sigmasOf = (n: number) => schedule({ steps: n, scheduler: 'diffusers', sequenceLength: 4096 })
    const actual = sigmasAtStrength(sigmasOf, steps, strength, 'diffusers')
    expectClose(actual, sigmas)
    expect([steps + 1 - actual.length, actual.length - 1]).toEqual([t_start, steps_run])
  },
)
