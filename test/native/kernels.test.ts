import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { measurePeak } from '../../lib/index.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { nativeQuantize as quantize } from '../../lib/native/addon.js'
import { convertWeights } from '../support/convert.js'
import type { BlockType } from '../support/dequantize.js'
import { goldenWeights } from '../support/golden.js'
import { readTensors, relL2 } from '../support/safetensors.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-kernels-'))
})
afterAll(() => {
  for (const { child } of children.values()) child.kill()
  rmSync(folder, { recursive: true })
})

type Precision = 'auto' | 'bf16' | 'f32'
type Kernels = 'own' | 'avx512' | 'tile-model' | 'avx2' | 'ggml'

interface Computed {
  output: Float32Array
  /** bytes of the weights in memory */
  weights: number
}

// GGFLUX_KERNELS is read once by a process, so each value has its own.
const children = new Map<Kernels, { child: ChildProcess; ended: Promise<never> }>()

function childFor(kernels: Kernels): { child: ChildProcess; ended: Promise<never> } {
  const script = fileURLToPath(new URL('./children/compute.mjs', import.meta.url))
  const child = fork(script, { env: { ...process.env, GGFLUX_KERNELS: kernels }, serialization: 'advanced' })
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`the process with ${kernels} kernels ended with ${code ?? signal}`)
  })
  ended.catch(() => {})
  return { child, ended }
}

/** Evaluates a network of this file; `shape` as children/compute.mjs takes it. */
async function compute(
  kernels: Kernels,
  mode: string,
  weights: string,
  ...shape: (number | Precision)[]
): Promise<Computed> {
  const { child, ended } = children.get(kernels) ?? childFor(kernels)
  children.set(kernels, { child, ended })
  const precision = shape.find((value) => typeof value === 'string') ?? 'auto'
  child.send({ mode, weights, precision, shape: shape.filter((value) => typeof value === 'number') })
  const [answer] = await Promise.race([once(child, 'message'), ended])
  if (answer.error) throw new Error(answer.error)
  return answer
}

let tiny: Promise<string> | undefined
/** The transformer `flux-tiny` with weights in F32. */
function fluxTiny(): Promise<string> {
  const path = join(folder, 'flux-f32.safetensors')
  tiny ??= synthesize({ architecture: 'flux-tiny', type: 'F32', path }).then(() => path)
  return tiny
}

// ggml looks GELU up in a table of half precision, 2^-11 apart: what differs in the last bit of F32 may be the next entry.
const GELU = 2 ** -11

// Shapes that no kernel likes: 160 rows of weights are no multiple of 64, 2112 numbers in a row are one block of 2048 and a rest of 64 (for the
// K types 2304, whole blocks of 256), 33 and 47 tokens leave rests behind every number of columns that is computed at once. The reference is ggml's
// F32 product with the weights as they are after rounding, decoded by the test; activations are rounded to bfloat16 or, by ggml, to 8 bits, so each
// token may differ by some percent, in F32 by the order of the sums (and GELU); a token that was forgotten or mixed up with another differs by everything.
// With ggml's kernels the weights are repacked where it has a format for the type: what happens on CPUs that ours does not suit. The model of AMX
// tiles computes what the kernel for them does, on any processor that has BF16 products.
const ODD_TOKENS = [33, 47]
interface OddLayers {
  quantized: string
  /** by ggml in F32, for each of {@link ODD_TOKENS} */
  expectedOf: Float32Array[]
}
const oddLayersOf = new Map<BlockType, Promise<OddLayers>>()

/** The same weights and reference for all kernels. */
function oddLayers(type: BlockType, dModel: number, dFf: number): Promise<OddLayers> {
  const make = async () => {
    const config = { dModel, dFf, dKv: 32, numHeads: dModel / 32, numLayers: 2 }
    const path = join(folder, `${type}-f32.safetensors`)
    await synthesize({ architecture: 't5-tiny', config, type: 'F32', path })
    const rounded = join(folder, `${type}-rounded.safetensors`)
    const quantized = await convertWeights(path, join(folder, `${type}.gguf`), { type, quantize, rounded })
    const expectedOf = []
    for (const n of ODD_TOKENS) expectedOf.push((await compute('ggml', 'states', rounded, n)).output)
    return { quantized, expectedOf }
  }
  const made = oddLayersOf.get(type) ?? make()
  oddLayersOf.set(type, made)
  return made
}

describe.each([
  ['own', 0.02],
  ['tile-model', 0.02],
  ['avx2', GELU],
  ['ggml', 0.06],
] as const)('linear layers of odd shapes, %s kernels', (kernels, tolerance) => {
  test.each<[BlockType, dModel: number, dFf: number]>([
    ['Q4_0', 160, 2112],
    ['Q8_0', 160, 2112],
    ['BF16', 160, 2112],
    ['Q4_1', 160, 2112],
    ['Q5_0', 160, 2112],
    ['Q5_1', 160, 2112],
    ['IQ4_NL', 160, 2112],
    ['Q2_K', 256, 2304],
    ['Q3_K', 256, 2304],
    ['Q4_K', 256, 2304],
    ['Q5_K', 256, 2304],
    ['Q6_K', 256, 2304],
    ['IQ4_XS', 256, 2304],
  ])('%s', async (type, dModel, dFf) => {
    const { quantized, expectedOf } = await oddLayers(type, dModel, dFf)
    for (const [i, n] of ODD_TOKENS.entries()) {
      const { output: actual } = await compute(kernels, 'states', quantized, n)
      const expected = expectedOf[i]!
      for (let row = 0; row < n; row++) {
        const [begin, end] = [row * dModel, (row + 1) * dModel]
        expect(relL2(actual.subarray(begin, end), expected.subarray(begin, end)), `token ${row} of ${n}`).toBeLessThan(
          tolerance,
        )
      }
    }
  })
})

// Types that no reader of ours knows are decoded by ggml on their way to a panel. Its own products of them round activations to 8 bits.
test.each(['IQ3_S', 'IQ3_XXS', 'IQ2_S'] as const)('linear layers of %s', async (type) => {
  const config = { dModel: 256, dFf: 2304, dKv: 32, numHeads: 8, numLayers: 1 }
  const { path: source } = await synthesize({
    architecture: 't5-tiny',
    config,
    type: 'F32',
    path: join(folder, `${type}-source.safetensors`),
  })
  const path = await convertWeights(source, join(folder, `${type}.gguf`), { type, quantize })
  const expected = (await compute('ggml', 'states', path, 47)).output
  const exact = (await compute('avx2', 'states', path, 47)).output
  const rounded = (await compute('own', 'states', path, 47)).output
  expect(relL2(exact, expected)).toBeLessThan(0.06)
  expect(relL2(rounded, exact)).toBeLessThan(0.02)
  expect(exact).not.toEqual(expected)
})

// F32 weights and activations: only the order of the sums differs, and GELU, which ours computes. Of one token's vectors ggml rounds activations to F16
// beside such weights, unless precision is f32.
test('linear layers in F32', async () => {
  const path = await fluxTiny()
  const rounded = join(folder, 'flux-exact-rounded.safetensors')
  const half = await convertWeights(path, join(folder, 'flux-exact.gguf'), { type: 'F16', quantize, rounded })
  const at = async (kernels: Kernels, weights: string, precision: Precision) =>
    (await compute(kernels, 'predict', weights, 60, 33, precision)).output
  const exact = await at('own', rounded, 'auto')
  expect(relL2(exact, await at('ggml', rounded, 'auto'))).toBeLessThan(GELU)
  // sums of 512 numbers in the order of the row, then of those: the same bits whatever the vectors' length and the type of the weights
  expect(await at('avx2', rounded, 'auto')).toEqual(exact)
  for (const kernels of ['own', 'avx2'] as const) expect(await at(kernels, half, 'f32')).toEqual(exact)
  expect(relL2(await at('own', half, 'auto'), exact)).toBeLessThan(1e-3)
})

// What is no number, infinite, or too small for the exponent stays in the row of the weight where it stands. The last layer is where a row is a
// channel of the output; it is the tokens' own, so that each of them is touched.
test.each([
  ['own', 'auto'],
  ['own', 'bf16'],
  ['tile-model', 'bf16'],
  ['avx2', 'auto'],
] as const)('NaN, infinity and denormals, %s kernels, precision %s', async (kernels, precision) => {
  const path = await fluxTiny()
  const touched = join(folder, 'flux-touched.safetensors')
  const tensors = [...readTensors(path)].map(([name, { shape, data }]) => {
    const values = Float32Array.from(data as Float32Array)
    const width = shape.at(-1)!
    if (name === 'final_layer.linear.weight') {
      values[5] = NaN
      values[width + 7] = Infinity
      values.fill(1e-40, 2 * width, 3 * width)
    }
    if (name === 'final_layer.linear.bias') values[2] = 0
    return { name, shape, type: 'F32' as const, data: new Uint8Array(values.buffer) }
  })
  await writeModelFile(touched, tensors, {})
  const [actual, clean] = [
    (await compute(kernels, 'predict', touched, 60, 33, precision)).output,
    (await compute(kernels, 'predict', path, 60, 33, precision)).output,
  ]
  const channels = actual.length / 60
  actual.forEach((value, i) => {
    const channel = i % channels
    if (channel === 0) expect(value).toBeNaN()
    else if (channel === 1) expect(Math.abs(value)).toBe(Infinity)
    else if (channel === 2) expect(Math.abs(value)).toBeLessThan(1e-36)
    else expect(value).toBe(clean[i])
  })
})

test('without our kernels, Q4_0 is repacked on every CPU with AVX2 or dot products', async () => {
  const config = { numLayers: 1 }
  const { path, size } = await synthesize({
    architecture: 't5-tiny',
    config,
    type: 'Q4_0',
    quantize,
    path: join(folder, 'repacked.gguf'),
  })
  const { weights } = await compute('ggml', 'states', path, 40)
  expect(weights).toBeGreaterThan(size / 2)
})

// Both in F32, so only the order of the sums differs.
describe.each(['own', 'avx2'] as const)("our convolution beside ggml's, %s", (kernels) => {
  test.each([
    ['decode', 1, 1],
    ['decode', 3, 5],
    ['decode', 9, 11],
    ['encode', 24, 40],
    ['encode', 72, 136],
  ])('%s at %i x %i', async (mode, height, width) => {
    const weights = await goldenWeights('ae-tiny')
    const [ours, reference] = [
      await compute(kernels, mode, weights, height, width),
      await compute('ggml', mode, weights, height, width),
    ]
    expect(ours.output.length).toBeGreaterThan(0)
    expect(relL2(ours.output, reference.output)).toBeLessThan(1e-5)
  })
})

// Rounding the weights alone to bfloat16 costs 8 x 9e-4 here (test/golden/README.md); pixels are rounded as well in each of some 20 layers. A tap
// or a channel at the wrong place costs everything.
describe.each(['own', 'tile-model'] as const)('our convolution in bfloat16, %s', (kernels) => {
  test.each([
    ['decode', 1, 1],
    ['decode', 3, 5],
    ['decode', 9, 11],
    ['encode', 24, 40],
    ['encode', 56, 72],
  ])('%s at %i x %i', async (mode, height, width) => {
    const weights = await goldenWeights('ae-tiny')
    const [ours, reference] = [
      await compute(kernels, mode, weights, height, width, 'bf16'),
      await compute('ggml', mode, weights, height, width),
    ]
    expect(ours.output.length).toBeGreaterThan(0)
    expect(relL2(ours.output, reference.output)).toBeLessThan(0.03)
    const plane = ours.output.length / (mode === 'decode' ? 3 : 16)
    for (let begin = 0; begin < ours.output.length; begin += plane) {
      const [a, b] = [ours.output, reference.output].map((output) => output.subarray(begin, begin + plane)) as [
        Float32Array,
        Float32Array,
      ]
      expect(relL2(a, b), `channel ${begin / plane}`).toBeLessThan(0.05)
    }
  })
})

// F32 weights and activations both rounded: what a linear layer in bfloat16 costs.
test('linear layers and attention in bfloat16 beside F32 weights', async () => {
  const path = await fluxTiny()
  const half = await convertWeights(path, join(folder, 'flux-half.gguf'), { type: 'F16', quantize })
  const expected = (await compute('own', 'predict', path, 60, 33)).output
  const { products } = await measurePeak(1)
  for (const weights of [path, half]) {
    const { output } = await compute('own', 'predict', weights, 60, 33, 'bf16')
    expect(relL2(output, expected)).toBeLessThan(0.02)
    if (products !== 'f32') expect(output).not.toEqual(expected)
  }
})

// BF16 weights are the same numbers in F32, where attention is ggml's; with them it is ours. Lengths around a block of 48 queries and 256 keys, and
// one token alone.
describe.each(['own', 'tile-model'] as const)('our attention, %s', (kernels) => {
  let [rounded, coarse] = ['', '']
  beforeAll(async () => {
    rounded = join(folder, 'flux-rounded.safetensors')
    coarse = await convertWeights(await fluxTiny(), join(folder, 'flux-bf16.gguf'), { type: 'BF16', quantize, rounded })
  })
  test.each([
    [1, 1, 0],
    [30, 17, 0],
    [333, 37, 0],
    [480, 33, 0],
    // with a bias on the last of the text tokens: within a block, and over several
    [30, 17, 5],
    [333, 300, 280],
  ])('%i tokens of the picture and %i of text, %i biased: F32 but for rounding', async (tokens, text, biased) => {
    const { output: actual } = await compute(kernels, 'predict', coarse, tokens, text, biased)
    const { output: expected } = await compute(kernels, 'predict', rounded, tokens, text, biased)
    const width = expected.length / tokens
    for (let row = 0; row < tokens; row++) {
      const [begin, end] = [row * width, (row + 1) * width]
      expect(relL2(actual.subarray(begin, end), expected.subarray(begin, end)), `token ${row}`).toBeLessThan(0.02)
    }
  })
})
