import { gpu, TOLERANCE } from '../support/gpu.js'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Autoencoder, FluxTransformer, T5Encoder } from '../../lib/nn.js'
import { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { anyInput } from '../support/any-input.mjs'
import { goldenIo, goldenWeights } from '../support/golden.js'
import { hidden, loraFile, numbers, RANK, tensorSource } from '../support/lora.js'
import { relL2, readTensors } from '../support/safetensors.js'
import { temporaryFolder } from '../support/temporary.js'

const PROMPT = 'a small red circle left of a large blue square on a white background'

/** in dB; of 8-bit images */
function psnr(a: Uint8Array, b: Uint8Array): number {
  const squares = a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0)
  return 10 * Math.log10(255 ** 2 / (squares / a.length))
}

describe('the tiny model', () => {
  let there: FluxPipeline
  let here: FluxPipeline
  beforeAll(async () => {
    there = await FluxPipeline.load('tiny', { backend: gpu })
    here = await FluxPipeline.load('tiny', { backend: 'cpu' })
  })
  afterAll(async () => {
    await there?.close()
    await here?.close()
  })

  test('draws what the CPU draws', async () => {
    const options = { prompt: PROMPT, seed: 1, format: 'raw' } as const
    expect(psnr(await there.generate(options), await here.generate(options))).toBeGreaterThan(45)
  })

  test('starts from an image as the CPU does', async () => {
    const image = await here.generate({ prompt: 'a green star on a black background', seed: 2 })
    const options = { prompt: PROMPT, seed: 1, image, strength: 0.5, format: 'raw' } as const
    expect(psnr(await there.generate(options), await here.generate(options))).toBeGreaterThan(45)
  })

  test('stops when it is told to, and draws again', async () => {
    const controller = new AbortController()
    const drawing = there.generate({ prompt: PROMPT, seed: 1, width: 256, height: 256, signal: controller.signal })
    await sleep(300)
    const began = performance.now()
    controller.abort(new Error('enough'))
    await expect(drawing).rejects.toThrow('enough')
    console.log(`stopped after ${(performance.now() - began).toFixed(0)} ms`)
    await there.generate({ prompt: PROMPT, seed: 1, steps: 1 })
  })
})

test('weights that do not fit into deviceMemory stay on the host, and the prediction is the same', async () => {
  const weights = await goldenWeights('flux-dev-tiny')
  await using all = await FluxTransformer.load(weights, { backend: gpu })
  await using none = await FluxTransformer.load(weights, { backend: gpu, deviceMemory: 0 })
  const input = anyInput(all, 8, 16)
  expect(relL2(await none.predict(input), await all.predict(input))).toBeLessThan(TOLERANCE.auto)
  expect(none.memory().weights).toBeLessThan(all.memory().weights)
})

// The rows of k are a part of one matrix, so they are added to a part of its result.
test('a LoRA on some rows acts as on the CPU', async () => {
  const layer = 'transformer.transformer_blocks.0.attn.to_k'
  const [down, up] = [numbers([RANK, hidden], 1, 0.05), numbers([hidden, RANK], 2, 0.05)]
  const path = await loraFile(join(temporaryFolder(), 'lora.safetensors'), [
    tensorSource(`${layer}.lora_A.weight`, down),
    tensorSource(`${layer}.lora_B.weight`, up),
  ])
  const predict = async (backend: string, loras: { path: string }[]) => {
    await using flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'), { backend })
    expect(await flux.adapt(loras)).toEqual(loras.map(() => []))
    return flux.predict(anyInput(flux, 8, 16))
  }
  const [there, here, plain] = [
    await predict(gpu, [{ path }]),
    await predict('cpu', [{ path }]),
    await predict('cpu', []),
  ]
  expect(relL2(here, plain)).toBeGreaterThan(3 * TOLERANCE.auto)
  expect(relL2(there, here)).toBeLessThan(TOLERANCE.auto)
})

test('close() during an evaluation waits for it and frees everything', async () => {
  const flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'), { backend: gpu })
  const running = flux.predict(anyInput(flux, 8, 16)).catch((error: unknown) => error)
  await flux.close()
  expect(await running).toBeInstanceOf(Float32Array)
  expect(flux.memory()).toEqual({ weights: 0, mapped: 0, compute: 0 })
})

// More than 512 MiB when unfolded, in the last levels.
test('a large image is decoded in parts', async () => {
  const path = await goldenWeights('ae-tiny')
  await using there = await Autoencoder.load(path, { backend: gpu, precision: 'f32' })
  await using here = await Autoencoder.load(path, { backend: 'cpu' })
  const side = 96
  const latent = Float32Array.from({ length: there.config.zChannels * side * side }, (_, i) => Math.sin(i * i))
  expect(relL2(await there.decode(latent, side, side), await here.decode(latent, side, side))).toBeLessThan(
    TOLERANCE.f32,
  )
})

// T5 at full size has such numbers between the two layers of its feed-forward networks.
test('activations beyond the range of half precision do not overflow', async () => {
  const folder = temporaryFolder()
  const path = join(folder, 't5.safetensors')
  const tensors = [...readTensors(await goldenWeights('t5-tiny'))].map(([name, { shape, data }]) => {
    const values = (data as Float32Array).map((value) =>
      /DenseReluDense\.wi_1\./.test(name) ? value * 2 ** 16 : value,
    )
    return { name, type: 'F32' as const, shape, data: new Uint8Array(values.buffer) }
  })
  await writeModelFile(path, tensors)
  const ids = goldenIo('t5-tiny').get('a.in.ids')!.data as Int32Array
  await using there = await T5Encoder.load(path, { backend: gpu })
  await using here = await T5Encoder.load(path, { backend: 'cpu' })
  expect(relL2(await there.encode(ids), await here.encode(ids))).toBeLessThan(TOLERANCE.auto)
})
