import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { LoadedNetwork } from '../../lib/networks/network.js'
import { FluxTransformer } from '../../lib/nn.js'
import { anyInput } from '../support/any-input.mjs'
import { goldenWeights } from '../support/golden.js'

// Weights are used as they are in the file's mapping, where another program may write meanwhile: reading past a new end kills the process.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-changed-'))
afterAll(() => rmSync(folder, { recursive: true }))

const model = join(folder, 'model.safetensors')
beforeEach(async () => copyFileSync(await goldenWeights('flux-dev-tiny'), model))

const changed = expect.objectContaining({
  name: 'FluxError',
  code: 'FLUX_BAD_FILE',
  message: expect.stringMatching(/model\.safetensors was changed .*load the model again/) as string,
})

test.each<[string, () => void]>([
  ['cut off', () => truncateSync(model, 1000)],
  ['emptied', () => truncateSync(model, 0)],
  ['longer than it was', () => writeFileSync(model, 'more', { flag: 'a' })],
  ['written again with the same bytes', () => writeFileSync(model, readFileSync(model))],
])('a model file that is %s while it is used: the next evaluation is refused', async (_, change) => {
  await using flux = await FluxTransformer.load(model, { backend: 'cpu' })
  expect(flux.memory().mapped).toBeGreaterThan(0)
  await flux.predict(anyInput(flux, 4, 16))
  change()
  await expect(flux.predict(anyInput(flux, 4, 16))).rejects.toEqual(changed)
})

test.each<[string, () => void]>([
  ['deleted', () => rmSync(model)],
  [
    'replaced by renaming another over it',
    () => {
      writeFileSync(`${model}.new`, 'another')
      renameSync(`${model}.new`, model)
    },
  ],
])('a model file that is %s stays with who uses it', async (_, change) => {
  await using flux = await FluxTransformer.load(model)
  const before = await flux.predict(anyInput(flux, 4, 16))
  change()
  expect(await flux.predict(anyInput(flux, 4, 16))).toEqual(before)
})

test('a model file that was changed after its header was read is not loaded', async () => {
  const file = await openNetworkFile('flux', model)
  const bytes = readFileSync(model)
  bytes.fill(0, bytes.length - 1000) // as large as it was
  writeFileSync(model, bytes)
  await expect(LoadedNetwork.start(file, {})).rejects.toEqual(changed)
})

test('a LoRA is copied: what becomes of its file changes nothing', async () => {
  await using flux = await FluxTransformer.load(model)
  const path = join(folder, 'lora.safetensors')
  const { hiddenSize } = flux.config
  const tensor = (name: string, shape: number[]) => ({
    name,
    shape,
    type: 'F32' as const,
    data: () => wave(shape[0]! * shape[1]!),
  })
  const layer = 'double_blocks.0.img_attn.proj'
  await writeModelFile(
    path,
    [tensor(`${layer}.lora_A.weight`, [64, hiddenSize]), tensor(`${layer}.lora_B.weight`, [hiddenSize, 64])],
    { format: 'pt' },
  )

  const without = await flux.predict(anyInput(flux, 4, 16))
  const { mapped } = flux.memory()
  await flux.adapt([{ path }])
  expect(flux.memory().mapped).toBe(mapped)
  const before = await flux.predict(anyInput(flux, 4, 16))
  expect(before).not.toEqual(without)
  truncateSync(path, 0)
  expect(await flux.predict(anyInput(flux, 4, 16))).toEqual(before)
})

async function* wave(length: number): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(Float32Array.from({ length }, (_, i) => 0.05 * Math.sin(i)).buffer)
}
