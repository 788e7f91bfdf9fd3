import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { denoise } from '../../../lib/sampling/denoise.js'
import type { Prediction } from '../../../lib/sampling/prediction.js'
import { addScaled, SAMPLERS, type Sampler } from '../../../lib/sampling/samplers.js'
import { collect } from '../../support/async.js'
import { readTensors, relL2 } from '../../support/safetensors.js'

const golden = readTensors(fileURLToPath(new URL('../../golden/pipeline-dev-tiny.io.safetensors', import.meta.url)))
const f32 = (name: string) => golden.get(name)!.data as Float32Array

test('Euler reproduces the reference latents from the reference predictions', async () => {
  const sigmas = [...f32('out.timesteps')]
  const seen: number[] = []
  const predict = async (x: Float32Array, sigma: number) => {
    const k = seen.push(sigma) - 1
    if (k > 0) expect(relL2(x, f32(`out.latents.${k - 1}`))).toBeLessThan(1e-6)
    return f32(`dbg.pred.${k}`)
  }
  const latents = f32('dbg.img_packed')
  const before = latents.slice()
  const steps = await collect(denoise({ predict, latents, sigmas, sampler: SAMPLERS.euler }))
  expect(seen).toEqual(sigmas.slice(0, 4))
  expect(steps.map(({ step, steps, sigma, sigmaNext }) => [step, steps, sigma, sigmaNext])).toEqual(
    [1, 2, 3, 4].map((step) => [step, 4, sigmas[step - 1], sigmas[step]]),
  )
  steps.forEach((event, k) => expect(relL2(event.latents, f32(`out.latents.${k}`))).toBeLessThan(1e-6))
  expect(latents).toEqual(before)
  // at the last step the estimate of the picture is the result
  expect(relL2(steps[3]!.denoised, f32('out.latents.3'))).toBeLessThan(1e-6)
})

test('of a rectified flow, denoised is x - sigma * velocity', async () => {
  const [first] = await collect(
    denoise({
      predict: async () => Float32Array.of(2, -4),
      latents: Float32Array.of(1, 1),
      sigmas: [0.5, 0],
    }),
  )
  expect([...first!.denoised]).toEqual([0, 3])
})

/** a stranger's sampler: two evaluations a step */
const midpoint: Sampler = async function* ({ estimate, latents, sigmas }) {
  let x = latents
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const width = sigmas[i + 1]! - sigmas[i]!
    const { denoised, derivative } = await estimate(x, sigmas[i]!)
    const middle = await estimate(addScaled(x, derivative, width / 2), sigmas[i]! + width / 2)
    x = addScaled(x, middle.derivative, width)
    yield { denoised, latents: x }
  }
}

test('a sampler with several evaluations a step fits in, and converges faster than Euler', async () => {
  // dx/dsigma = x from sigma 1 to 0: x(0) = x(1) / e
  const predict = async (x: Float32Array) => x.slice()
  const sigmas = [1, 0.75, 0.5, 0.25, 0]
  const error = async (sampler: Sampler) => {
    const steps = await collect(denoise({ predict, latents: Float32Array.of(1), sigmas, sampler }))
    expect(steps).toHaveLength(4)
    return Math.abs(steps[3]!.latents[0]! - 1 / Math.E)
  }
  expect(await error(SAMPLERS.euler)).toBeCloseTo(1 / Math.E - 0.75 ** 4, 6)
  expect(await error(midpoint)).toBeLessThan((await error(SAMPLERS.euler)) / 5)
})

test('a sampler takes what the output means from the prediction', async () => {
  // epsilon as in Stable Diffusion: x = image + sigma noise, the output is the noise
  const epsilon: Prediction = {
    scaleInput: (x, sigma) => x.map((value) => value / Math.hypot(1, sigma)),
    timestep: (sigma) => sigma,
    noised: (image, noise, sigma) => addScaled(image, noise, sigma),
    denoised: (x, noise, sigma) => addScaled(x, noise, -sigma),
    derivative: (_, noise) => noise,
  }
  // v as in Stable Diffusion 2: the same image from another output
  const v: Prediction = {
    ...epsilon,
    denoised: (x, output, sigma) =>
      x.map((value, i) => value / (1 + sigma ** 2) - (output[i]! * sigma) / Math.hypot(1, sigma)),
    derivative: (x, output, sigma) => x.map((value, i) => (value - v.denoised(x, output, sigma)[i]!) / sigma),
  }
  const [image, noise] = [0.5, -1.25]
  const sigmas = [8, 3, 0.5, 0]
  const latents = Float32Array.of(image + sigmas[0]! * noise)
  const outputs: [Prediction, (sigma: number) => number][] = [
    [epsilon, () => noise],
    [v, (sigma) => (noise - sigma * image) / Math.hypot(1, sigma)],
  ]
  for (const [prediction, output] of outputs) {
    const predict = async (_: Float32Array, sigma: number) => Float32Array.of(output(sigma))
    const steps = await collect(denoise({ predict, prediction, latents, sigmas }))
    for (const { denoised } of steps) expect(denoised[0]).toBeCloseTo(image, 5)
    expect(steps.at(-1)!.latents[0]).toBeCloseTo(image, 5)
  }
})

test('an abort between steps rejects with the reason, and the model is not asked again', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  let evaluations = 0
  const predict = async (x: Float32Array) => {
    evaluations++
    return x
  }
  const run = async () => {
    for await (const { step } of denoise({
      predict,
      latents: Float32Array.of(1),
      sigmas: [1, 0.5, 0.2, 0],
      signal: controller.signal,
    })) {
      if (step === 2) controller.abort(reason)
    }
  }
  await expect(run()).rejects.toBe(reason)
  expect(evaluations).toBe(2)
})

test('an abort during the last evaluation rejects, too', async () => {
  const controller = new AbortController()
  const predict = async (x: Float32Array) => {
    controller.abort('now')
    return x
  }
  await expect(
    collect(denoise({ predict, latents: Float32Array.of(1), sigmas: [1, 0], signal: controller.signal })),
  ).rejects.toBe('now')
})

test('leaving the loop early ends it', async () => {
  let evaluations = 0
  const predict = async (x: Float32Array) => {
    evaluations++
    return x
  }
  for await (const { step } of denoise({ predict, latents: Float32Array.of(1), sigmas: [1, 0.5, 0] })) {
    if (step === 1) break
  }
  expect(evaluations).toBe(1)
})

test('a prediction of another length is refused', async () => {
  const events = denoise({ predict: async () => new Float32Array(3), latents: new Float32Array(4), sigmas: [1, 0] })
  await expect(collect(events)).rejects.toMatchObject({
    code: 'FLUX_BAD_SHAPE',
    message: expect.stringContaining('3 values for 4'),
  })
})
