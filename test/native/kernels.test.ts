import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { synthesize } from '../../lib/models/synth.js'
import { nativeQuantize as quantize } from '../../lib/native.js'
import { T5Encoder } from '../../lib/nn.js'
import { convertWeights } from '../support/convert.js'
import type { BlockType } from '../support/dequantize.js'
import { goldenWeights } from '../support/golden.js'
import { relL2 } from '../support/safetensors.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-kernels-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

// Shapes that no kernel likes: 160 rows of weights are no multiple of 64, 2112 numbers in a row are one block of 2048 and a rest of 64 (for the
// K types 2304, whole blocks of 256), 33 and 47 tokens leave rests behind every number of columns that is computed at once. The reference is
// the same network in F32 on the weights as they are after rounding; activations are rounded to 8 bits or to bfloat16, so each token may
// differ by some percent, and a token that was forgotten or mixed up with another differs by everything.
test.each<[BlockType, dModel: number, dFf: number]>([
  ['Q4_0', 160, 2112],
  ['Q8_0', 160, 2112],
  ['BF16', 160, 2112],
  ['Q5_1', 160, 2112],
  ['IQ4_NL', 160, 2112],
  ['Q4_K', 256, 2304],
  ['Q3_K', 256, 2304],
])('linear layers of odd shapes in %s', async (type, dModel, dFf) => {
  const config = { dModel, dFf, dKv: dModel / 5 === 32 ? 32 : 64, numHeads: dModel / 5 === 32 ? 5 : 4, numLayers: 2 }
  const { path } = await synthesize({ architecture: 't5-tiny', config, type: 'F32', path: join(folder, `${type}-f32.safetensors`) })
  const quantized = await convertWeights(path, join(folder, `${type}.gguf`), { type, quantize })
  const rounded = await convertWeights(path, join(folder, `${type}-rounded.safetensors`), { type, quantize, rounded: true })
  await using t5 = await T5Encoder.load(quantized, { threads: 2 })
  await using exact = await T5Encoder.load(rounded, { threads: 2 })
  for (const n of [33, 47]) {
    const tokens = Int32Array.from({ length: n }, (_, i) => (i * 37) % 512)
    const [actual, expected] = [await t5.encode(tokens), await exact.encode(tokens)]
    for (let row = 0; row < n; row++) {
      const [begin, end] = [row * dModel, (row + 1) * dModel]
      expect(relL2(actual.subarray(begin, end), expected.subarray(begin, end)), `token ${row} of ${n}`).toBeLessThan(0.06)
    }
  }
})

// Our convolution beside ggml's own, which GGFLUX_KERNELS=ggml brings back: both in F32, so only the order of the sums differs.
test.each([
  ['decode', 1, 1],
  ['decode', 3, 5],
  ['decode', 9, 11],
  ['encode', 24, 40],
  ['encode', 72, 136],
])('convolutions: %s at %i x %i', async (mode, height, width) => {
  const weights = await goldenWeights('ae-tiny')
  const compute = (kernels: string) => {
    const out = join(folder, `${mode}-${height}-${kernels}`)
    const child = fileURLToPath(new URL('./children/compute.mjs', import.meta.url))
    execFileSync(process.execPath, [child, mode, weights, String(height), String(width), out], { env: { ...process.env, GGFLUX_KERNELS: kernels } })
    return new Float32Array(new Uint8Array(readFileSync(out)).buffer)
  }
  const [own, reference] = [compute(''), compute('ggml')]
  expect(own.length).toBeGreaterThan(0)
  expect(relL2(own, reference)).toBeLessThan(1e-5)
})
