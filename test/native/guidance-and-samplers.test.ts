import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { imageIds, packLatents } from '../../lib/families/flux1/tokens.js'
import { FluxTransformer } from '../../lib/nn.js'
import { denoise } from '../../lib/sampling/denoise.js'
import { guided, type GuidanceOptions } from '../../lib/sampling/guidance.js'
import { SAMPLERS, type Predict, type Sampler } from '../../lib/sampling/samplers.js'
import { eulerAncestral } from '../../lib/sampling/samplers/euler-ancestral.js'
import { schedule } from '../../lib/sampling/schedule.js'
import { onTestBackend } from '../support/backend.js'
import { goldenErrors, goldenWeights } from '../support/golden.js'
import { printErrorTable, type ErrorRow } from '../support/parity.js'
import { readTensors, relL2 } from '../support/safetensors.js'

// 64 x 48 pixels
const [ROWS, COLUMNS] = [6, 8]
const errors = goldenErrors()
const table: ErrorRow[] = []
let flux: FluxTransformer

beforeAll(async () => {
  flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'), onTestBackend)
})
afterAll(async () => {
  printErrorTable('relative L2 of guidance and samplers with noise against the reference, F32 weights', table)
  await flux?.close()
})

function open(file: string) {
  const io = readTensors(fileURLToPath(new URL(`../golden/${file}.io.safetensors`, import.meta.url)))
  const floats = (name: string) => io.get(name)!.data as Float32Array
  const packed = (name: string) => packLatents(floats(name), ROWS, COLUMNS)
  return {
    floats,
    packed,
    predictor:
      (prefix: string): Predict =>
      (img, timestep) =>
        flux.predict({
          img,
          imgIds: imageIds(ROWS / 2, COLUMNS / 2),
          txt: floats(`in.${prefix}txt`),
          vec: floats(`in.${prefix}vec`),
          timestep,
          guidance: floats('const.guidance')[0]!,
        }),
    expectParity(name: string, actual: Float32Array): void {
      const limit = errors[`${file}.io.safetensors`]![name]!.suggested.rel_l2!
      const error = relL2(actual, floats(name))
      table.push([`${file} ${name}`, error, limit])
      expect(error, name).toBeLessThanOrEqual(limit)
    },
  }
}

describe('true-cfg', () => {
  const { floats, packed, predictor, expectParity } = open('true-cfg')
  const sigmas = schedule({ steps: 4, sequenceLength: (ROWS * COLUMNS) / 4 })

  test.each<[string, Partial<GuidanceOptions>]>([
    ['cfg', {}],
    ['zero-star', { zeroStar: 'diffusers', zeroInitSteps: 0 }],
    ['zero-star-init', { zeroStar: 'diffusers' }],
    ['zero-star-comfy', { zeroStar: 'comfyui' }],
  ])('%s', async (name, options) => {
    const scale = floats('const.true_cfg_scale')[0]!
    const predict = guided(predictor(''), predictor('negative_'), { scale, sigmas, ...options })
    const first = `${name}.out.pred.0`
    if (name === 'zero-star-init') expect(await predict(packed('in.noise'), 1)).toEqual(floats(first))
    else if (name !== 'cfg') expectParity(first, await predict(packed('in.noise'), 1))
    for await (const { step, latents } of denoise({ predict, latents: packed('in.noise'), sigmas }))
      expectParity(`${name}.out.latents.${step - 1}`, latents)
  })
})

describe('noise-samplers', () => {
  const { floats, packed, predictor, expectParity } = open('noise-samplers')

  test.each<[string, Sampler]>([
    ['euler_ancestral_rf', SAMPLERS.euler_ancestral],
    ['euler_ancestral_rf_eta05', eulerAncestral({ eta: 0.5, noiseScale: 1.1 })],
    ['lcm', SAMPLERS.lcm],
  ])('%s', async (name, sampler) => {
    let draws = 0
    const run = {
      predict: predictor(''),
      latents: packed('in.noise'),
      sigmas: [...floats('const.sigmas')],
      sampler,
      noise: () => packed(`in.step_noise.${draws++}`),
    }
    for await (const { step, latents, denoised } of denoise(run)) {
      expectParity(`${name}.out.latents.${step - 1}`, latents)
      expectParity(`${name}.dbg.denoised.${step - 1}`, denoised)
    }
    expect(draws).toBe(3)
  })
})
