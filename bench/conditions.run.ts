// What guiding an image costs. Steps: the share of the time next to the share of the operations, with full width and a fifth of the blocks, in the
// proportions of FLUX.1 (19 + 38) and its Union ControlNets (5 + 10). Encoders: seconds and memory at full size. SIDE=1024 measures at another size.
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { nativeQuantize as quantize } from '../lib/native/addon.js'
import type { LoadedNetwork } from '../lib/networks/network.js'
import {
  Autoencoder,
  ClipVisionEncoder,
  FluxTransformer,
  ReduxProjector,
  SiglipVisionEncoder,
  type ProfileRow,
} from '../lib/nn.js'
import { synthesize, type SynthOptions } from '../lib/tools/synth/synth.js'
import { anyInput } from '../test/support/any-input.mjs'

const folder = mkdtempSync(join(os.tmpdir(), 'ggflux-bench-conditions-'))
afterAll(() => rmSync(folder, { recursive: true }))

const SIDE = Number(process.env.SIDE ?? 512)
const TURNS = Number(process.env.TURNS ?? 3)
const TEXT = 256
/** tokens that Redux adds for an image */
const REDUX = 729

const made = async (architecture: string, config: Record<string, number> = {}, type: SynthOptions['type'] = 'Q4_0') => {
  const path = join(folder, `${architecture}.gguf`)
  await synthesize({ architecture, config, type, quantize, path })
  return path
}
const wave = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i))
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`
const operationsOf = (rows: ProfileRow[]) => rows.reduce((sum, { operations }) => sum + operations, 0)

test('a step', async () => {
  await using flux = await FluxTransformer.load(await made('flux-dev', { depth: 4, depthSingleBlocks: 8 }))
  const controlNet = await made('flux-controlnet-union', { depth: 1, depthSingleBlocks: 2 })
  const ipAdapter = await made('flux-ip-adapter', { depth: 4 })
  await flux.attach([
    { kind: 'controlnet', path: controlNet },
    { kind: 'ip-adapter', path: ipAdapter },
  ])
  const side = SIDE / 16
  const plain = anyInput(flux, side, TEXT)
  const twice = (values: Float32Array) =>
    Float32Array.from({ length: 2 * values.length }, (_, i) => values[i % values.length]!)
  const requests = {
    'text alone': plain,
    'a ControlNet of 5 + 10 blocks': {
      ...plain,
      controls: [{ attachment: 0, image: wave(side * side * 64), mode: 'canny' as const }],
    },
    'an IP-Adapter': { ...plain, imagePrompts: [{ attachment: 1, embeds: wave(768) }] },
    'Redux, one image': { ...plain, txt: anyInput(flux, side, TEXT + REDUX).txt },
    'one reference image of the same size': { ...plain, img: twice(plain.img), imgIds: twice(plain.imgIds) },
  }
  const rows = Object.entries(requests).map(([name, input]) => ({
    name,
    input,
    seconds: Infinity,
    operations: 0,
    memory: 0,
  }))
  for (const row of rows) {
    row.operations = operationsOf(await flux.profile(() => flux.predict(row.input)))
    row.memory = flux.memory().compute
    await flux.trim()
  }
  // in turns, so that a machine that becomes slower or faster does so for all
  for (let turn = 0; turn < TURNS; turn++) {
    for (const row of rows) {
      const began = performance.now()
      await flux.predict(row.input)
      row.seconds = Math.min(row.seconds, (performance.now() - began) / 1000)
    }
  }
  const [{ seconds, operations }] = rows as [(typeof rows)[0]]
  console.log(
    `\n${SIDE} x ${SIDE}, ${TEXT} text tokens\n\n| a step with | operations | seconds | activations |\n|---|---|---|---|`,
  )
  for (const row of rows) {
    const [work, time] = [row.operations / operations, row.seconds / seconds].map((ratio) => ratio.toFixed(2))
    console.log(`| ${row.name} | x ${work} | ${row.seconds.toFixed(2)}, x ${time} | ${megabytes(row.memory)} |`)
    expect(row.seconds).toBeGreaterThan(0)
  }
})

test('the encoders', async () => {
  const encoders: [string, () => Promise<LoadedNetwork<object>>, (network: never) => Promise<unknown>][] = [
    [
      `autoencoder, ${SIDE} x ${SIDE}`,
      async () => Autoencoder.load(await made('autoencoder', {}, 'F16')),
      (vae: Autoencoder) => vae.encode(wave(3 * SIDE * SIDE), SIDE, SIDE),
    ],
    [
      'SigLIP, for Redux',
      async () => SiglipVisionEncoder.load(await made('siglip-so400m', {}, 'F16')),
      (siglip: SiglipVisionEncoder) => siglip.encode(wave(3 * siglip.config.imageSize ** 2)),
    ],
    [
      "Redux's projector",
      async () => ReduxProjector.load(await made('redux', {}, 'F16')),
      (redux: ReduxProjector) => redux.project(wave(REDUX * redux.config.reduxDim)),
    ],
    [
      "CLIP's vision tower, for IP-Adapters",
      async () => ClipVisionEncoder.load(await made('clip-vision-l', {}, 'F16')),
      (clip: ClipVisionEncoder) => clip.encode(wave(3 * clip.config.imageSize ** 2)),
    ],
  ]
  console.log('\n| encoder | seconds | weights | activations |\n|---|---|---|---|')
  for (const [name, load, encode] of encoders) {
    await using network = await load()
    let seconds = Infinity
    for (let turn = 0; turn < TURNS; turn++) {
      const began = performance.now()
      await encode(network as never)
      seconds = Math.min(seconds, (performance.now() - began) / 1000)
    }
    const { weights, mapped, compute } = network.memory()
    console.log(`| ${name} | ${seconds.toFixed(2)} | ${megabytes(weights + mapped)} | ${megabytes(compute)} |`)
    expect(seconds).toBeGreaterThan(0)
  }
})
