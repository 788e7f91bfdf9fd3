import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openModelFile } from '../../../lib/formats/open.js'
import { openNetworkFile } from '../../../lib/networks/network-file.js'
import { convertWeights, llamaT5Name } from '../../support/convert.js'
import { goldenWeights } from '../../support/golden.js'
import { quantizeQ8_0 } from '../../support/quantize.js'
import { readTensors, relL2 } from '../../support/safetensors.js'

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-convert-'))
})

afterAll(() => rmSync(folder, { recursive: true }))

it('T5 in Q8_0 under the names of llama.cpp opens as the same network', async () => {
  const golden = await goldenWeights('t5-tiny')
  const path = await convertWeights(golden, join(folder, 't5.gguf'), {
    type: 'Q8_0',
    naming: llamaT5Name,
    quantize: quantizeQ8_0,
  })
  const { tensors } = await openModelFile(path)
  expect(tensors.get('enc.blk.2.ffn_gate.weight')!.type).toBe('Q8_0')
  expect(tensors.get('enc.blk.0.attn_rel_b.weight')!.type).toBe('F32')
  const [converted, original] = await Promise.all([openNetworkFile('t5', path), openNetworkFile('t5', golden)])
  expect(converted.config).toEqual(original.config)
  expect(converted.tensors.map(({ name, shape }) => [name, shape])).toEqual(
    original.tensors.map(({ name, shape }) => [name, shape]),
  )
})

// Rounding errors of normal numbers: a float type with m fraction bits loses about 2^-m / sqrt(12) / 1.44 (relative, rms), 8 bits in a
// block of 32 about max / 127 / sqrt(12) with a maximum of 2.3 standard deviations.
it.each([
  ['F16', 2e-4],
  ['BF16', 1.7e-3],
  ['Q8_0', 5.5e-3],
] as const)('the values left by %s are near the original ones', async (type, expected) => {
  const golden = await goldenWeights('flux-schnell-tiny')
  const [out, rounded] = [join(folder, `${type}.gguf`), join(folder, `${type}.safetensors`)]
  await convertWeights(golden, out, { type: () => type, quantize: quantizeQ8_0, rounded })
  const name = 'single_blocks.0.linear1.weight'
  const error = relL2(readTensors(rounded).get(name)!.data, readTensors(golden).get(name)!.data)
  expect(error).toBeGreaterThan(0.7 * expected)
  expect(error).toBeLessThan(1.3 * expected)
})

it('puts a prefix before names and takes types by role', async () => {
  const path = await convertWeights(await goldenWeights('flux-dev-tiny'), join(folder, 'prefixed.safetensors'), {
    type: (_, role) => (role === 'matrix' ? 'BF16' : 'F32'),
    prefix: 'model.diffusion_model.',
  })
  const { tensors } = await openModelFile(path)
  expect(tensors.get('model.diffusion_model.img_in.weight')!.type).toBe('BF16')
  expect(tensors.get('model.diffusion_model.img_in.bias')!.type).toBe('F32')
  expect((await openNetworkFile('flux', path)).config.guidanceEmbed).toBe(true)
})
