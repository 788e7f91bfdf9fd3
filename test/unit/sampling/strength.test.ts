import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { schedule } from '../../../lib/sampling/schedule.js'
import { sigmasAtStrength } from '../../../lib/sampling/strength.js'
import { readTensors } from '../../support/safetensors.js'

const read = (name: string) =>
  readTensors(fileURLToPath(new URL(`../../golden/${name}.io.safetensors`, import.meta.url)))

// Picture sizes, steps and strengths as the golden README names them.
test.each([
  ['img2img-diffusers', 'a', 7, 0.6, 12],
  ['img2img-diffusers', 'b', 6, 0.35, 12],
  ['img2img-diffusers', 'edge', 5, 0.8, 12],
  ['inpaint', 's085', 7, 0.85, 12],
  ['inpaint', 's100', 4, 1, 12],
] as const)('%s %s: %i steps at strength %d', (file, name, steps, strength, sequenceLength) => {
  const io = read(file)
  const sigmas = sigmasAtStrength((n) => schedule({ steps: n, sequenceLength }), steps, strength)
  const expected = io.get(`${name}.out.timesteps`)!.data
  expect(sigmas).toHaveLength(expected.length)
  expected.forEach((sigma, i) => expect(Math.abs(sigmas[i]! - sigma)).toBeLessThanOrEqual(1e-6))
  expect(steps + 1 - sigmas.length).toBe(io.get(`${name}.out.start_index`)!.data[0])
})

const sigmasOf = (steps: number) => schedule({ steps, sequenceLength: 4096 })
const simple = (steps: number) => schedule({ steps, sequenceLength: 4096, scheduler: 'simple' })

test('both rules start where they do in their programs', () => {
  const first = (steps: number, strength: number, rule: 'diffusers' | 'comfyui') => {
    const sigmas = sigmasAtStrength(rule === 'comfyui' ? simple : sigmasOf, steps, strength, rule)
    return [sigmas.length - 1, Number(sigmas[0]!.toFixed(6))]
  }
  expect(first(4, 0.6, 'diffusers')).toEqual([3, 0.904531])
  expect(first(4, 0.2, 'diffusers')).toEqual([1, 0.512844])
  expect(first(28, 0.6, 'diffusers')).toEqual([17, 0.829956])
  expect(first(28, 0.95, 'diffusers')).toEqual([27, 0.988409])
  expect(first(10, 0.7, 'diffusers')).toEqual([7, 0.880513])
  expect(first(50, 0.58, 'diffusers')[0]).toBe(29)
  expect(first(4, 0.6, 'comfyui')).toEqual([4, 0.863338])
  expect(first(28, 0.6, 'comfyui')).toEqual([28, 0.830876])
  expect(first(20, 0.75, 'comfyui')).toEqual([20, 0.91328])
  expect(first(10, 0.3, 'comfyui')).toEqual([10, 0.578696])
  expect(first(4, 0.99995, 'comfyui')).toEqual([4, 1])
})

test.each([0, -0.1, 1.01, NaN, Infinity, '0.5' as never, undefined as never])('strength %s is refused', (strength) => {
  for (const rule of ['diffusers', 'comfyui'] as const) {
    expect(() => sigmasAtStrength(sigmasOf, 4, strength, rule)).toThrow(
      expect.objectContaining({ code: 'FLUX_BAD_OPTION', message: expect.stringMatching(/^strength is /) }),
    )
  }
})

test.each([
  [5 as never, 1],
  [undefined as never, 1],
  [sigmasOf, 0],
  [sigmasOf, 1.5],
  [sigmasOf, NaN],
  [sigmasOf, '4' as never],
])('levels from %o and %o steps are refused', (levels, steps) => {
  expect(() => sigmasAtStrength(levels, steps, 1)).toThrow(
    expect.objectContaining({ code: 'FLUX_BAD_OPTION', message: expect.stringMatching(/^(sigmasOf|steps) is /) }),
  )
})

test('a strength that leaves no step, or needs too many levels, is refused', () => {
  expect(() => sigmasAtStrength(sigmasOf, 4, 1e-18)).toThrow('strength is 1e-18, which leaves none of 4 steps')
  expect(() => sigmasAtStrength(sigmasOf, 4, 1e-4, 'comfyui')).toThrow(
    'strength is 0.0001: give at least 0.0004 for 4 steps',
  )
  expect(() => sigmasAtStrength(sigmasOf, 4, 0.5, 'official' as never)).toThrow('diffusers, comfyui')
})
