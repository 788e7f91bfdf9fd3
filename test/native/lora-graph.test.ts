import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { nativeQuantize as quantize } from '../../lib/native/addon.js'
import { FluxTransformer } from '../../lib/nn.js'
import { convert } from '../../lib/tools/convert.js'
import { onTestBackend } from '../support/backend.js'
import { devCase } from '../support/cases.js'
import { convertWeights } from '../support/convert.js'
import { rewrite } from '../support/dialects.js'
import { factors, formatFile, merged } from '../support/lora-formats.js'
import {
  changedWeights,
  expectToActAs,
  hidden,
  loraFile,
  numbers,
  official,
  predicted,
  product,
  RANK,
  tensorSource,
  weights,
} from '../support/lora.js'
import { relL2 } from '../support/safetensors.js'
import { temporaryFolder } from '../support/temporary.js'

// What LoRAs add to the graph of a loaded transformer, and that they leave it as it was.

const folder = temporaryFolder()
const file = (name: string) => join(folder, `${name}.safetensors`)
let flux: FluxTransformer
let plain: Float32Array
beforeAll(async () => {
  flux = await FluxTransformer.load(official, onTestBackend)
  plain = await flux.predict(devCase('b'))
})
afterAll(() => flux?.close())

test('a bias, as the official LoRAs have it', async () => {
  const [{ down, up }, bias] = [factors[4]!, numbers([hidden], 9)]
  const layer = 'double_blocks.1.img_attn.proj'
  const path = await loraFile(file('bias'), [
    tensorSource(`${layer}.lora_A.weight`, down),
    tensorSource(`${layer}.lora_B.weight`, up),
    tensorSource(`${layer}.lora_B.bias`, bias),
  ])
  const deltas = new Map([
    [`${layer}.weight`, [{ delta: product(up, down) }]],
    [`${layer}.bias`, [{ delta: bias.data }]],
  ])
  const expected = await changedWeights(official, file('bias-merged'), deltas, 0.5)
  await expectToActAs(flux, { path, scale: 0.5 }, expected, folder)
})

// The official LoRAs for Canny and Depth: the picture's input reads twice as many channels, of which the model's own weights see the first half, and
// norms are replaced. Their reference is a transformer made so.
describe('control pictures', () => {
  const [, input] = weights.get('img_in.weight')!.shape as [number, number]
  const wide = 2 * input
  const NORMS = [
    ['double_blocks.0.img_attn.norm.query_norm.scale', 'double_blocks.0.img_attn.norm.query_norm.scale'],
    ['transformer.transformer_blocks.1.attn.norm_added_k.weight', 'double_blocks.1.txt_attn.norm.key_norm.scale'],
    ['single_blocks.1.norm.key_norm.scale', 'single_blocks.1.norm.key_norm.scale'],
  ] as const
  const [down, up, bias] = [numbers([RANK, wide], 70), numbers([hidden, RANK], 71), numbers([hidden], 72)]
  const norms = new Map<string, Float32Array<ArrayBuffer>>(
    NORMS.map(([, name], i) => [name, Float32Array.from(weights.get(name)!.data, (_, j) => 1 + Math.sin(i + j) / 2)]),
  )
  const replaced = NORMS.map(([inFile, name]) => {
    const data = norms.get(name)!
    return tensorSource(inFile, { shape: [data.length], data })
  })
  const between = (name: string, old: Float32Array, scale: number) =>
    old.map((value, i) => value + scale * (norms.get(name)![i]! - value))

  test.each([1, 0.5])('norms are replaced, strength %d', async (scale) => {
    // in a file of norms alone they would be a model's
    const layer = 'double_blocks.0.img_attn.proj'
    const path = await loraFile(file('norms'), [
      ...replaced,
      tensorSource(`${layer}.lora_A.weight`, numbers([RANK, hidden], 75)),
      tensorSource(`${layer}.lora_B.weight`, { shape: [hidden, RANK], data: new Float32Array(hidden * RANK) }),
    ])
    const others = new Map([...norms.keys()].map((name) => [name, (old: Float32Array) => between(name, old, scale)]))
    const expected = await changedWeights(official, file('norms-merged'), new Map(), 1, others)
    await expectToActAs(flux, { path, scale }, expected, folder, { change: 0.01, error: 1e-5 })
  })

  test('the input is widened', async () => {
    const path = await loraFile(file('control'), [
      tensorSource('img_in.lora_A.weight', down),
      tensorSource('img_in.lora_B.weight', up),
      tensorSource('img_in.lora_B.bias', bias),
      // ComfyUI adds the widened layer's size
      tensorSource('img_in.reshape_weight', { shape: [2], data: Float32Array.of(hidden, wide) }),
      ...replaced,
    ])
    const scale = 0.8
    const delta = product(up, down)
    const expected = await rewrite(official, file('control-merged'), (name, tensor) => {
      const old = tensor.data as Float32Array
      if (norms.has(name)) return [[name, { ...tensor, data: between(name, old, scale) }]]
      if (name === 'img_in.bias')
        return [[name, { ...tensor, data: old.map((value, i) => value + scale * bias.data[i]!) }]]
      if (name !== 'img_in.weight') return [[name, tensor]]
      const data = Float32Array.from({ length: hidden * wide }, (_, i) => {
        const [row, column] = [Math.floor(i / wide), i % wide]
        return (column < input ? old[row * input + column]! : 0) + scale * delta[i]!
      })
      return [[name, { shape: [hidden, wide], data }]]
    })
    const narrowCase = devCase('b')
    const img = Float32Array.from({ length: 2 * narrowCase.img.length }, (_, i) =>
      i % wide < input ? narrowCase.img[Math.floor(i / wide) * input + (i % wide)]! : Math.sin(i),
    )
    const wideCase = { ...narrowCase, img }
    await using reference = await FluxTransformer.load(expected, onTestBackend)
    expect(reference.channels).toBe(wide)
    expect(flux.channels).toBe(input)
    expect(await flux.adapt([{ path, scale }])).toEqual([[]])
    expect(flux.channels).toBe(wide)
    const widened = await flux.predict(wideCase)
    expect(relL2(widened, await reference.predict(wideCase))).toBeLessThan(1e-5)
    // beside one that reads the picture alone
    const narrow = await loraFile(file('narrow'), [
      tensorSource('img_in.lora_A.weight', numbers([RANK, input], 73)),
      tensorSource('img_in.lora_B.weight', numbers([hidden, RANK], 74)),
    ])
    await flux.adapt([{ path, scale }, { path: narrow }])
    expect(relL2(await flux.predict(wideCase), widened)).toBeGreaterThan(1e-4)
    await expect(flux.predict(narrowCase)).rejects.toMatchObject({ code: 'FLUX_BAD_SHAPE' })
    await flux.adapt([])
    expect(await flux.predict(narrowCase)).toEqual(plain)
    await expect(convert(official, join(folder, 'no.gguf'), { type: 'F16', loras: [{ path }] })).rejects.toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringContaining('widens') as string,
    })
  })
})

test('with strength 0, or taken away, it is as if it were not there: the same bytes', async () => {
  const path = await formatFile(file('kohya'), 'kohya')
  await flux.adapt([{ path }])
  expect(await flux.predict(devCase('b'))).not.toEqual(plain)
  await flux.adapt([{ path, scale: 0 }])
  expect(await flux.predict(devCase('b'))).toEqual(plain)
  await flux.adapt([{ path }])
  await flux.adapt([])
  expect(await flux.predict(devCase('b'))).toEqual(plain)
})

test('twice at half strength is one, and two of different files add up', async () => {
  const [one, other] = [await formatFile(file('kohya'), 'kohya'), await formatFile(file('peft'), 'diffusers and PEFT')]
  await flux.adapt([{ path: one }])
  const whole = await flux.predict(devCase('b'))
  await flux.adapt([
    { path: one, scale: 0.5 },
    { path: other, scale: 0.5 },
  ])
  expect(relL2(await flux.predict(devCase('b')), whole)).toBeLessThan(1e-3)
})

test('it acts beside quantised weights, which stay as they are', async () => {
  const quantised = await convertWeights(official, join(folder, 'q8.gguf'), { type: 'Q8_0', quantize })
  await using coarse = await FluxTransformer.load(quantised, onTestBackend)
  const before = await coarse.predict(devCase('b'))
  await coarse.adapt([{ path: await formatFile(file('kohya'), 'kohya') }])
  const [after, expected] = [await coarse.predict(devCase('b')), await predicted(await merged(file('merged'), 1))]
  expect(relL2(after, expected)).toBeLessThan(relL2(before, plain) + 0.02)
  await coarse.adapt([])
  expect(await coarse.predict(devCase('b'))).toEqual(before)
})

test('names that belong to nothing are told', async () => {
  const text = 'lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight'
  const path = await formatFile(file('kohya'), 'kohya', [tensorSource(text, numbers([RANK, 64], 1))])
  expect(await flux.adapt([{ path }])).toEqual([[text]])
})
