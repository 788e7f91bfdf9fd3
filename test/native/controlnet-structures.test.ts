import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { packLatents } from '../../lib/families/flux1/tokens.js'
import { FluxTransformer } from '../../lib/nn.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { dev33Case, dev33Start } from '../support/attachments-suite.js'
import { onTestBackend } from '../support/backend.js'
import { goldenIo, goldenWeights } from '../support/golden.js'
import {
  conditioning,
  convolution,
  doubleBlock,
  linear,
  packed,
  referenceFlux,
  rowsOf,
  silu,
  singleBlock,
  sum,
  type ReferenceInput,
} from '../support/reference-flux.js'
import { readTensors, relL2 } from '../support/safetensors.js'

// Structures that the reference data has no case of, against the transformer and the ControlNets written out in float64.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-controlnet-'))
const flux = await FluxTransformer.load(await goldenWeights('flux-dev33-tiny'), onTestBackend)
afterAll(async () => {
  await flux.close()
  rmSync(folder, { recursive: true })
})

const weights = readTensors(await goldenWeights('flux-dev33-tiny'))
const given = dev33Case('controlnet')
const img = dev33Start('controlnet')
const TEXT = given.txt.length / 256
const input: ReferenceInput = {
  img: rowsOf(img, 64),
  ids: [...rowsOf(new Float32Array(3 * TEXT), 3), ...rowsOf(given.imgIds, 3)].map((row) => [...row]),
  txt: rowsOf(given.txt, 256),
  vec: Float64Array.from(given.vec),
  timestep: 1,
  guidance: given.guidance!,
}
const flat = (rows: Float64Array[]) => rows.flatMap((row) => [...row])
const wave = (length: number, step: number) => Float32Array.from({ length }, (_, i) => Math.sin(step * i))

const made = async (name: string, config: Record<string, unknown>) => {
  const path = join(folder, `${name}.safetensors`)
  await synthesize({ architecture: 'flux-controlnet-tiny', config, type: 'F32', seed: 3, path })
  return path
}
let mistoline: string
let inpainting: string
let plain: number[]
beforeAll(async () => {
  mistoline = await made('mistoline', { depth: 3, modes: 0, rgb: true, mistoline: true })
  inpainting = await made('inpainting', { depth: 1, depthSingleBlocks: 0, modes: 0, condChannels: 68 })
  plain = flat(referenceFlux(weights, [3, 3], input))
})

test('what is written out is the transformer', () => {
  expect(relL2(plain, goldenIo('controlnet').get('out.pred_without_control')!.data)).toBeLessThan(1e-4)
})

test('Mistoline: its own convolutions, SiLU after its layers, single blocks that start without the image', async () => {
  const t = readTensors(mistoline)
  const image = wave(3 * 48 * 64, 0.37)
  const vec = conditioning(t, input)
  const strides = [1, 1, 1, 2, 1, 2, 1, 2, 1, 1]
  const planes = [0, 1, 2].map((c) => rowsOf(image.subarray(c * 48 * 64, (c + 1) * 48 * 64), 64))
  const hint = strides.reduce((x, stride, i) => {
    const active = i === 0 ? x : x.map((plane) => plane.map((row) => row.map(silu)))
    return convolution(t, `input_cond_block.encoder.${2 * i}`, active, stride)
  }, planes)
  let [x, txt] = [
    sum(linear(t, 'img_in', input.img), linear(t, 'pos_embed_input', packed(hint))),
    linear(t, 'txt_in', input.txt),
  ]
  const sample = (name: string, rows: Float64Array[]) =>
    linear(t, name, rows).map((row) => row.map((value) => 0.6 * silu(value)))
  const doubles = [0, 1, 2].map((i) => {
    ;[x, txt] = doubleBlock(t, i, x, txt, vec, input.ids)
    return sample(`controlnet_blocks.${i}.linear`, x)
  })
  let both = [...txt, ...x.map((row) => row.map(() => 0))]
  const singles = [0, 1].map((i) => {
    both = singleBlock(t, i, both, vec, input.ids)
    return sample(`controlnet_single_blocks.${i}.linear`, both)
  })
  const expected = flat(
    referenceFlux(weights, [3, 3], input, {
      afterDouble: (i) => doubles[i % 2]!,
      afterSingle: (i) => ({ rows: singles[i % 2]!, first: 0 }),
    }),
  )
  await flux.attach([{ kind: 'controlnet', path: mistoline }])
  const controls = [{ attachment: 0, image, height: 48, width: 64, scale: 0.6 }]
  const pred = await flux.predict({ ...given, img, timestep: 1, controls })
  expect(relL2(pred, expected)).toBeLessThan(1e-3)
  expect(relL2(plain, expected)).toBeGreaterThan(0.05)
})

test.each([12, 8])('inpainting: 68 channels, for %i of 12 image tokens', async (tokens) => {
  const t = readTensors(inpainting)
  const image = wave(tokens * 68, 0.53)
  const ids = input.ids.slice(0, TEXT + tokens)
  const x = sum(linear(t, 'img_in', input.img.slice(0, tokens)), linear(t, 'pos_embed_input', rowsOf(image, 68)))
  const [after] = doubleBlock(t, 0, x, linear(t, 'txt_in', input.txt), conditioning(t, input), ids)
  const sample = linear(t, 'controlnet_blocks.0', after)
  const expected = flat(referenceFlux(weights, [3, 3], input, { afterDouble: () => sample }))
  await flux.attach([{ kind: 'controlnet', path: inpainting }])
  const pred = await flux.predict({ ...given, img, timestep: 1, controls: [{ attachment: 0, image }] })
  expect(relL2(pred, expected)).toBeLessThan(1e-3)
  expect(relL2(plain, expected)).toBeGreaterThan(0.05)
})

test('the tokens of an inpainting ControlNet hold the mask after the latent', () => {
  // diffusers packs 17 channels: 16 of the latent, one of the mask at the latent's size
  const [latent, mask] = [wave(16 * 6 * 8, 0.1), wave(6 * 8, 0.2)]
  const all = packLatents(Float32Array.of(...latent, ...mask), 6, 8)
  expect(all.length).toBe(12 * 68)
  const [parts, masks] = [packLatents(latent, 6, 8), packLatents(mask, 6, 8)]
  for (let n = 0; n < 12; n++) {
    expect(all.subarray(n * 68, n * 68 + 64)).toEqual(parts.subarray(n * 64, n * 64 + 64))
    expect(all.subarray(n * 68 + 64, n * 68 + 68)).toEqual(masks.subarray(n * 4, n * 4 + 4))
  }
})
