import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { TENSOR_TYPES } from '../../lib/models/types.js'
import { nativeAddon } from '../../lib/native.js'
import { FluxTransformer } from '../../lib/nn.js'
import { gaussianNoise } from '../../lib/sampling/noise.js'
import { convertWeights } from '../support/convert.js'
import { dequantize, type BlockType } from '../support/dequantize.js'
import { goldenIo, goldenWeights } from '../support/golden.js'
import { printErrorTable, type ErrorRow } from '../support/parity.js'
import { relL2 } from '../support/safetensors.js'

const { quantize } = nativeAddon()
const io = goldenIo('flux-dev-tiny')
const rows: ErrorRow[] = []
let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-quantized-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true })
  printErrorTable('relative L2 of pred in flux-dev-tiny by type: against the same rounded weights in F32, and against the reference', rows)
})

async function predict(path: string): Promise<Float32Array> {
  await using flux = await FluxTransformer.load(path)
  const input = (name: string) => io.get(`b.in.${name}`)!.data as Float32Array
  return flux.predict({
    img: input('img'),
    imgIds: input('img_ids'),
    txt: input('txt'),
    vec: input('y'),
    timestep: input('timesteps')[0]!,
    guidance: input('guidance')[0]!,
  })
}

// Against the reference: three times what rounding the matrices changes (test/golden/README.md: 9e-4, 6e-3, 1.6e-2, 0.3 for F16, BF16, 8
// and 4 bits), and more for fewer bits. Against the same weights in F32: products round the other factor too, to 8 bits or to BF16.
test.each<[BlockType, ofRounded: number, ofReference: number]>([
  ['F16', 3e-3, 3e-3],
  ['BF16', 2e-2, 2e-2],
  ['Q8_0', 5e-2, 5e-2],
  ['Q6_K', 5e-2, 0.15],
  ['Q5_0', 5e-2, 0.5],
  ['Q5_1', 5e-2, 0.5],
  ['Q5_K', 5e-2, 0.5],
  ['Q4_0', 5e-2, 0.9],
  ['Q4_1', 5e-2, 0.9],
  ['Q4_K', 5e-2, 0.9],
  ['IQ4_NL', 5e-2, 0.9],
  ['IQ4_XS', 5e-2, 0.9],
  ['Q3_K', 5e-2, 1.5],
  ['Q2_K', 5e-2, 1.5],
])('a transformer in %s computes what its rounded weights say', async (type, ofRounded, ofReference) => {
  const golden = await goldenWeights('flux-dev-tiny')
  const quantized = await predict(await convertWeights(golden, join(folder, `${type}.gguf`), { type, quantize }))
  const rounded = await predict(await convertWeights(golden, join(folder, `${type}.safetensors`), { type, quantize, rounded: true }))
  const fromRounded = relL2(quantized, rounded)
  const fromReference = relL2(quantized, io.get('b.out.pred')!.data)
  rows.push([`${type} of rounded`, fromRounded, ofRounded], [`${type} of reference`, fromReference, ofReference])
  expect(fromRounded).toBeLessThanOrEqual(ofRounded)
  expect(fromReference).toBeLessThanOrEqual(ofReference)
})

// A quantiser with q levels over about +-2.4 standard deviations (the largest of 32 normal numbers) cannot be much better than
// 4.8 / q / sqrt(12), and should not be worse than that by half.
test.each<[BlockType, levels: number]>([
  ['Q8_0', 255],
  ['Q6_K', 63],
  ['Q5_0', 31],
  ['Q4_0', 15],
])('the quantiser of %s loses what its number of levels says', async (type, levels) => {
  const values = gaussianNoise(7, 256 * 256)
  const error = relL2(dequantize(type, await quantize(TENSOR_TYPES[type].id, values, 256)), values)
  const expected = 4.8 / levels / Math.sqrt(12)
  expect(error).toBeGreaterThan(0.5 * expected)
  expect(error).toBeLessThan(1.5 * expected)
})
