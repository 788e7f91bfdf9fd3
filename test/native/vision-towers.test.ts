import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { CLIP_VISION } from '../../lib/networks/clip-vision/definition.js'
import { REDUX } from '../../lib/networks/redux/definition.js'
import { SIGLIP } from '../../lib/networks/siglip/definition.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import { convert, inspect } from '../../lib/index.js'
import {
  ClipTextEncoder,
  ClipVisionEncoder,
  ReduxProjector,
  SiglipVisionEncoder,
  type ProfileRow,
} from '../../lib/nn.js'
import { nativeQuantize as quantize } from '../../lib/native/addon.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { onTestBackend } from '../support/backend.js'
import { goldenIo, goldenWeights } from '../support/golden.js'
import { readTensors, relL2 } from '../support/safetensors.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-towers-'))
afterAll(() => rmSync(folder, { recursive: true }))

const FOUR_HEADS = { numHeads: 4 }

test.each(['F32', 'Q8_0'] as const)('count the operations that their layouts say, in %s', async (type) => {
  const made = async (architecture: string) =>
    (await synthesize({ architecture, type, quantize, path: join(folder, `${architecture}-${type}.gguf`) })).path
  const counted = (profile: ProfileRow[]) => {
    const sum = (name: string) =>
      profile.filter((row) => row.name === name).reduce((total, { operations }) => total + operations, 0)
    return { products: sum('linear'), attention: sum('attention') }
  }
  const image = new Float32Array(3 * 56 * 56)
  await using siglip = await SiglipVisionEncoder.load(
    { path: await made('siglip-tiny'), config: FOUR_HEADS },
    onTestBackend,
  )
  expect(counted(await siglip.profile(() => siglip.encode(image)))).toEqual(SIGLIP.flops(siglip.config, []))
  await using clip = await ClipVisionEncoder.load(
    { path: await made('clip-vision-tiny'), config: FOUR_HEADS },
    onTestBackend,
  )
  expect(counted(await clip.profile(() => clip.encode(image)))).toEqual(CLIP_VISION.flops(clip.config, []))
  await using redux = await ReduxProjector.load(await made('redux-tiny'), onTestBackend)
  expect(counted(await redux.profile(() => redux.project(new Float32Array(5 * 64))))).toEqual(
    REDUX.flops(redux.config, [5]),
  )
})

test('a file of another kind, and an image of another size, are refused', async () => {
  const [siglip, clip, redux] = [
    await goldenWeights('siglip-tiny'),
    await goldenWeights('clip-vision-tiny'),
    await goldenWeights('redux-tiny'),
  ]
  await expect(SiglipVisionEncoder.load(clip, onTestBackend)).rejects.toMatchObject({
    code: 'FLUX_BAD_FILE',
    message: expect.stringMatching(/this seems to be a CLIP vision tower, not a SigLIP vision tower/) as string,
  })
  await expect(ClipVisionEncoder.load(redux, onTestBackend)).rejects.toMatchObject({
    code: 'FLUX_BAD_FILE',
    message: expect.stringMatching(/this seems to be a FLUX Redux image adapter/) as string,
  })
  await using tower = await SiglipVisionEncoder.load({ path: siglip, config: FOUR_HEADS }, onTestBackend)
  await expect(tower.encode(new Float32Array(3 * 64 * 64))).rejects.toMatchObject({
    code: 'FLUX_BAD_SHAPE',
    message: expect.stringMatching(/pixels has 12288 numbers; 9408 are needed/) as string,
  })
})

test('a tower whose image is no whole number of patches leaves out the rest', async () => {
  const path = await goldenWeights('siglip-tiny')
  await using exact = await SiglipVisionEncoder.load({ path, config: FOUR_HEADS }, onTestBackend)
  await using larger = await SiglipVisionEncoder.load({ path, config: { ...FOUR_HEADS, imageSize: 59 } }, onTestBackend)
  const pixels = goldenIo('redux').get('dbg.pixels')!.data as Float32Array
  const wide = Float32Array.from({ length: 3 * 59 * 59 }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / 59 / 59), Math.floor(i / 59) % 59, i % 59]
    return y < 56 && x < 56 ? pixels[(channel * 56 + y) * 56 + x]! : 9
  })
  expect(await larger.encode(wide)).toEqual(await exact.encode(pixels))
})

test('convert leaves the pooling head out, and inspect tells what a file is', async () => {
  const path = await goldenWeights('siglip-tiny')
  const out = join(folder, 'siglip-f16.gguf')
  await convert(path, out, { type: 'F16' })
  const io = goldenIo('redux')
  await using tower = await SiglipVisionEncoder.load({ path: out, config: FOUR_HEADS }, onTestBackend)
  const states = await tower.encode(io.get('dbg.pixels')!.data as Float32Array)
  // rounding to F16 changes the transformer by 9e-4; three times that may be
  expect(relL2(states, io.get('out.last_hidden_state')!.data as Float32Array)).toBeLessThan(3e-3)
  for (const file of [path, out]) {
    expect(await inspect(file)).toMatchObject({
      role: 'vision tower',
      architecture: 'SigLIP vision tower (56 pixels, patches of 14)',
      problems: [],
    })
  }
  expect(await inspect(await goldenWeights('clip-vision-tiny'))).toMatchObject({
    architecture: 'CLIP vision tower (56 pixels, patches of 14)',
    problems: [],
  })
  expect(await inspect(await goldenWeights('redux-tiny'))).toMatchObject({ role: 'redux', problems: [] })
})

test('a whole CLIP holds both encoders', async () => {
  const path = join(folder, 'whole-clip.safetensors')
  const halves = [
    ...readTensors(await goldenWeights('clip-tiny')),
    ...readTensors(await goldenWeights('clip-vision-tiny')),
  ]
  const tensors = halves.map(([name, { shape, data }]) => ({
    name,
    type: 'F32' as const,
    shape,
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }))
  const scale = { name: 'logit_scale', type: 'F32' as const, shape: [], data: new Uint8Array(4) }
  await writeModelFile(path, [...tensors, scale])
  await using whole = await ClipVisionEncoder.load({ path, config: FOUR_HEADS }, onTestBackend)
  await using half = await ClipVisionEncoder.load(
    { path: await goldenWeights('clip-vision-tiny'), config: FOUR_HEADS },
    onTestBackend,
  )
  const pixels = goldenIo('ip-adapter').get('dbg.pixels')!.data as Float32Array
  expect(await whole.encode(pixels)).toEqual(await half.encode(pixels))
  await using text = await ClipTextEncoder.load(path, onTestBackend)
  expect(text.config.hiddenSize).toBe(128)
})
