import { afterAll, expect, test } from 'vitest'
import { ClipVisionEncoder, ReduxProjector, SiglipVisionEncoder } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { goldenErrors, goldenIo, goldenWeights } from '../support/golden.js'
import { printErrorTable, type ErrorRow } from '../support/parity.js'
import { relL2 } from '../support/safetensors.js'

const errors = goldenErrors()
const rows: ErrorRow[] = []
afterAll(() => printErrorTable('relative L2 of the vision towers and Redux against the reference', rows))

const floats = (file: 'redux' | 'ip-adapter', name: string) => goldenIo(file).get(name)!.data as Float32Array
const FOUR_HEADS = { numHeads: 4 }

function expectParity(file: 'redux' | 'ip-adapter', output: string, actual: Float32Array): void {
  const limit = errors[`${file}.io.safetensors`]![output]!.suggested.rel_l2!
  const error = relL2(actual, floats(file, output))
  rows.push([`${file} ${output}`, error, limit])
  expect(error, output).toBeLessThanOrEqual(limit)
}

test("SigLIP's states, after its last norm", async () => {
  const source = { path: await goldenWeights('siglip-tiny'), config: FOUR_HEADS }
  await using siglip = await SiglipVisionEncoder.load(source, onTestBackend)
  expectParity('redux', 'out.last_hidden_state', await siglip.encode(floats('redux', 'dbg.pixels')))
})

test("Redux's tokens", async () => {
  await using redux = await ReduxProjector.load(await goldenWeights('redux-tiny'), onTestBackend)
  expectParity('redux', 'out.projected', await redux.project(floats('redux', 'out.last_hidden_state')))
})

test("CLIP's embedding", async () => {
  const source = { path: await goldenWeights('clip-vision-tiny'), config: FOUR_HEADS }
  await using clip = await ClipVisionEncoder.load(source, onTestBackend)
  expectParity('ip-adapter', 'out.image_embeds', await clip.encode(floats('ip-adapter', 'dbg.pixels')))
})
