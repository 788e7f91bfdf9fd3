import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { denoise } from '../../../lib/sampling/denoise.js'
import { guidancePhase, guided, type GuidanceOptions } from '../../../lib/sampling/guidance.js'
import { SAMPLERS, type Predict } from '../../../lib/sampling/samplers.js'
import { StepCache } from '../../../lib/sampling/step-cache.js'
import { schedule } from '../../../lib/sampling/schedule.js'
import { packLatents } from '../../../lib/families/flux1/tokens.js'
import { collect } from '../../support/async.js'
import { readTensors, relL2 } from '../../support/safetensors.js'

const golden = readTensors(fileURLToPath(new URL('../../golden/true-cfg.io.safetensors', import.meta.url)))
const f32 = (name: string) => golden.get(name)!.data as Float32Array
const noise = packLatents(f32('in.noise'), 6, 8)
const sigmas = [...f32('out.timesteps')]
const scale = f32('const.true_cfg_scale')[0]!

/** The reference's own predictions, in turn. */
const recorded =
  (side: 'cond' | 'uncond'): Predict =>
  async (_, sigma) =>
    f32(`cfg.dbg.pred_${side}.${sigmas.indexOf(sigma)}`)

test('guidance reproduces the latents from the predictions of the reference', async () => {
  const predict = guided(recorded('cond'), recorded('uncond'), { scale, sigmas })
  const steps = await collect(denoise({ predict, latents: noise, sigmas }))
  steps.forEach(({ latents }, k) => expect(relL2(latents, f32(`cfg.out.latents.${k}`))).toBeLessThan(1e-6))
})

test.each<[string, Partial<GuidanceOptions>]>([
  ['zero-star', { zeroStar: 'diffusers', zeroInitSteps: 0 }],
  ['zero-star-init', { zeroStar: 'diffusers' }],
  ['zero-star-comfy', { zeroStar: 'comfyui' }],
])('%s: the first prediction and step', async (name, options) => {
  const predict = guided(recorded('cond'), recorded('uncond'), { scale, sigmas, ...options })
  const prediction = await predict(noise, sigmas[0]!)
  const expected = f32(`${name}.out.pred.0`)
  if (name === 'zero-star-init') expect(prediction).toEqual(expected)
  else expect(relL2(prediction, expected)).toBeLessThan(1e-6)
  const [first] = await collect(denoise({ predict, latents: noise, sigmas }))
  expect(relL2(first!.latents, f32(`${name}.out.latents.0`))).toBeLessThan(1e-6)
})

describe('phases', () => {
  const ten = schedule({ steps: 10, sequenceLength: 256 })
  const phases = (options: Partial<GuidanceOptions>) =>
    ten.slice(0, -1).map(guidancePhase({ scale: 3, sigmas: ten, ...options }))

  test('steps from int(start * n) to int(end * n) - 1 are guided', () => {
    expect(phases({})).toEqual(Array(10).fill('guided'))
    expect(phases({ start: 0.25, end: 0.75 })).toEqual(
      Array.from({ length: 10 }, (_, i) => (i >= 2 && i < 7 ? 'guided' : 'unguided')),
    )
    expect(phases({ start: 0.3, end: 0.3 })).toEqual(Array(10).fill('unguided'))
    expect(phases({ scale: 1 })).toEqual(Array(10).fill('unguided'))
  })

  test('zero steps come first, whatever start is', () => {
    expect(phases({ zeroStar: 'diffusers', zeroInitSteps: 2, start: 0.4 }).slice(0, 5)).toEqual([
      'zero',
      'zero',
      'unguided',
      'unguided',
      'guided',
    ])
    expect(phases({ zeroStar: 'comfyui' })).not.toContain('zero')
  })

  test('a level within a step belongs to it', () => {
    const phase = guidancePhase({ scale: 3, sigmas: [1, 0.8, 0.4, 0], start: 0.34, end: 0.67 })
    expect([0.9999, 0.81, 0.8, 0.6, 0.41, 0.4, 0.2].map(phase)).toEqual([
      'unguided',
      'unguided',
      'guided',
      'guided',
      'guided',
      'unguided',
      'unguided',
    ])
  })

  test('the negative side is evaluated only where it acts, neither side where the prediction is zero', async () => {
    const asked: string[] = []
    const side =
      (name: string): Predict =>
      async (x, sigma) => {
        asked.push(`${name} ${sigma}`)
        return x.slice()
      }
    const sigmas = [1, 0.8, 0.6, 0.4, 0]
    const predict = guided(side('+'), side('-'), { scale: 2, sigmas, start: 0.5, zeroStar: 'diffusers' })
    await collect(denoise({ predict, latents: Float32Array.of(1), sigmas }))
    expect(asked).toEqual(['+ 0.8', '+ 0.6', '- 0.6', '+ 0.4', '- 0.4'])
  })
})

test.each<[Partial<GuidanceOptions>, RegExp]>([
  [{ scale: NaN }, /^scale is NaN/],
  [{ start: -0.1 }, /^start is -0.1/],
  [{ start: 0.6, end: 0.5 }, /^end is 0.5: give a number from start \(0.6\) to 1/],
  [{ end: 1.1 }, /^end is 1.1/],
  [{ zeroStar: 'paper' as never }, /^zeroStar is 'paper'/],
  [{ zeroInitSteps: 0.5 }, /^zeroInitSteps is 0.5/],
  [{ sigmas: undefined as never }, /^sigmas is undefined/],
  [{ sigmas: [1, NaN, 0] }, /^sigmas is /],
  [{ scael: 2 } as never, /^there is no scael in the options of guidance/],
])('%o is refused', (options, message) => {
  const call = () => guided(recorded('cond'), recorded('uncond'), { scale: 2, sigmas, ...options })
  expect(call).toThrow(expect.objectContaining({ code: 'FLUX_BAD_OPTION', message: expect.stringMatching(message) }))
})

test('phases need options, and name them with the label', () => {
  const refused = (message: RegExp) =>
    expect.objectContaining({ code: 'FLUX_BAD_OPTION', message: expect.stringMatching(message) })
  for (const none of [undefined, null, 3])
    expect(() => guidancePhase(none as never)).toThrow(refused(/^the options of guidance is /))
  expect(() => guidancePhase({ sigmas } as never, 'trueCfg.')).toThrow(refused(/^trueCfg.scale is undefined/))
})

describe('the step cache', () => {
  const long = schedule({ steps: 28, sequenceLength: 4096 })
  const smooth =
    (turn: number): Predict =>
    async (_, sigma) =>
      Float32Array.of(Math.cos(2 * sigma + turn), Math.sin(2 * sigma + turn))

  async function run(options: Partial<GuidanceOptions>, tolerance?: number, sampler: keyof typeof SAMPLERS = 'euler') {
    const guidance = { scale: 5, sigmas: long, ...options }
    const asked: number[] = []
    const both = guided(smooth(0), smooth(1), guidance)
    const evaluate: Predict = (x, sigma) => {
      asked.push(sigma)
      return both(x, sigma)
    }
    const predict =
      tolerance === undefined ? evaluate : new StepCache(evaluate, tolerance, guidancePhase(guidance)).predict
    const steps = await collect(
      denoise({ predict, latents: new Float32Array(2), sigmas: long, sampler: SAMPLERS[sampler] }),
    )
    return { x: steps.at(-1)!.latents, asked }
  }

  test.each(['euler', 'heun', 'dpm_2', 'dpmpp_2m', 'uni_pc', 'ipndm', 'deis', 'res_multistep'] as const)(
    'saves evaluations of the combined prediction, within its error: %s',
    async (sampler) => {
      const [all, some] = [await run({}, undefined, sampler), await run({}, 0.02, sampler)]
      expect(some.asked.length).toBeLessThan(0.7 * all.asked.length)
      const length = Math.hypot(...(await guided(smooth(0), smooth(1), { scale: 5, sigmas: long })(all.x, 0.5)))
      expect(Math.hypot(...some.x.map((value, i) => value - all.x[i]!))).toBeLessThan(2 * 0.02 * length)
    },
  )

  test('continues no velocity from before guidance starts or ends', async () => {
    const { asked } = await run({ start: 0.25, end: 0.75 }, 0.5)
    // four evaluations tell the error, so that many are asked after each change
    for (const first of [0, 7, 21]) expect(asked).toEqual(expect.arrayContaining(long.slice(first, first + 4)))
    expect(asked.length).toBeLessThan(20)
  })

  test('holds with first steps that are zero', async () => {
    const [all, some] = [
      await run({ zeroStar: 'diffusers', zeroInitSteps: 3 }),
      await run({ zeroStar: 'diffusers', zeroInitSteps: 3 }, 1e-12),
    ]
    expect(some).toEqual(all)
  })
})
