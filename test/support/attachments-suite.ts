import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { imageIds, packLatents } from '../../lib/families/flux1/tokens.js'
import {
  Autoencoder,
  FluxTransformer,
  IpAdapter,
  type ControlInput,
  type NetworkOptions,
  type PredictInput,
} from '../../lib/nn.js'
import { goldenErrors, goldenIo, goldenWeights } from './golden.js'
import { printErrorTable, type ErrorRow } from './parity.js'
import { relL2 } from './safetensors.js'

type Io = ReturnType<typeof goldenIo>
type File = 'controlnet' | 'controlnet-xlabs' | 'ip-adapter'
type Extra = Pick<PredictInput, 'controls' | 'imagePrompts'>

const errors = goldenErrors()
const floats = (io: Io, name: string) => io.get(name)!.data as Float32Array
/** [1, height, width, 3] to [3, height, width] in -1 to 1 */
export function pixels(io: Io, name: string): Float32Array {
  const { data, shape } = io.get(name)!
  const plane = shape[1]! * shape[2]!
  return Float32Array.from({ length: 3 * plane }, (_, i) => data[(i % plane) * 3 + Math.floor(i / plane)]! / 127.5 - 1)
}

/** The inputs of a golden case of flux-dev33-tiny, but state and time. */
export function dev33Case(file: File): Omit<PredictInput, 'img' | 'timestep'> {
  const io = goldenIo(file)
  const guidance = floats(io, 'const.guidance')[0]!
  return { imgIds: imageIds(3, 4), txt: floats(io, 'in.txt'), vec: floats(io, 'in.vec'), guidance }
}
export const dev33Start = (file: File) => packLatents(floats(goldenIo(file), 'in.noise'), 6, 8)

const CONTROLNETS = ['controlnet-union-tiny', 'controlnet-tiny', 'controlnet-xlabs-tiny'] as const
export const attachedControlNets = async () =>
  Promise.all(CONTROLNETS.map(async (name) => ({ kind: 'controlnet' as const, path: await goldenWeights(name) })))
const [UNION, PLAIN, XLABS] = [0, 1, 2]

/** ControlNets and IP-Adapters against the reference data, on one device. `where` stands in the printed table of errors. */
export function testAttachments(where: string, options: Pick<NetworkOptions, 'backend' | 'deviceMemory'>): void {
  const rows: ErrorRow[] = []
  let flux: FluxTransformer
  beforeAll(async () => {
    flux = await FluxTransformer.load(await goldenWeights('flux-dev33-tiny'), options)
  })
  afterAll(async () => {
    await flux?.close()
    printErrorTable(`relative L2 with ControlNets and IP-Adapters against the reference, F32 weights, ${where}`, rows)
  })

  function expectParity(file: File, output: string, actual: Float32Array): void {
    const limit = errors[`${file}.io.safetensors`]![output]!.suggested.rel_l2!
    const error = relL2(actual, floats(goldenIo(file), output))
    rows.push([`${file} ${output}`, error, limit])
    expect(error, output).toBeLessThanOrEqual(limit)
  }

  /** Euler's method with the predictions; each state is compared. */
  async function expectTrajectory(file: File, name: string, extra: (step: number) => Extra): Promise<void> {
    const timesteps = floats(goldenIo(file), 'out.timesteps')
    let img = dev33Start(file)
    for (let step = 0; step + 1 < timesteps.length; step++) {
      const timestep = timesteps[step]!
      const pred = await flux.predict({ ...dev33Case(file), img, timestep, ...extra(step) })
      if (step === 0) expectParity(file, `${name}out.pred.0`, pred)
      img = img.map((value, i) => value + (timesteps[step + 1]! - timestep) * pred[i]!)
      expectParity(file, `${name}out.latents.${step}`, img)
    }
  }

  describe('controlnet', () => {
    beforeAll(async () => flux.attach(await attachedControlNets()))
    const io = goldenIo('controlnet')
    const [a, b] = [floats(io, 'out.cond_a'), floats(io, 'out.cond_b')]
    const union = (image: Float32Array, mode: number, more = {}) => ({ attachment: UNION, image, mode, ...more })
    const plain = { attachment: PLAIN, image: b }

    test.each<[string, Omit<ControlInput, 'scale'>[]]>([
      ['union', [union(a, 2)]],
      ['plain', [plain]],
      ['gated', [union(a, 7)]],
      ['multi', [union(a, 2), plain]],
      ['multi_all', [union(a, 2), plain]],
      // diffusers' way: the first net has no single blocks, so those of the second do not act
      ['multi_swapped', [plain, union(a, 2, { singleBlocks: false })]],
      ['multi_union', [union(a, 2), union(b, 7)]],
    ])('%s', async (name, nets) => {
      const scales = floats(io, `${name}.out.scales`)
      await expectTrajectory('controlnet', `${name}.`, (step) => ({
        controls: nets.map((net, i) => ({ ...net, scale: scales[step * nets.length + i]! })),
      }))
    })

    test("in ComfyUI's way the order does not matter", async () => {
      const controls = [
        { ...plain, scale: 0.4 },
        { ...union(a, 2), scale: 0.7 },
      ]
      await expectTrajectory('controlnet', 'multi_all.', () => ({ controls }))
    })

    test('without any, or with a scale of 0', async () => {
      for (const controls of [[], [{ ...plain, scale: 0 }]]) {
        const input = { ...dev33Case('controlnet'), img: dev33Start('controlnet'), timestep: 1, controls }
        expectParity('controlnet', 'out.pred_without_control', await flux.predict(input))
      }
    })

    test('the control images as the autoencoder encodes them', async () => {
      await using vae = await Autoencoder.load(await goldenWeights('ae-tiny'), options)
      const { scaleFactor, shiftFactor } = vae.config
      for (const [picture, cond] of [
        ['a', a],
        ['b', b],
      ] as const) {
        const { mean } = await vae.encode(pixels(io, `in.control_${picture}_u8`), 48, 64)
        const packed = packLatents(
          mean.map((value) => scaleFactor * (value - shiftFactor)),
          6,
          8,
        )
        expect(relL2(packed, cond)).toBeLessThanOrEqual(1e-4)
      }
    })
  })

  test('controlnet-xlabs', async () => {
    await flux.attach(await attachedControlNets())
    const image = pixels(goldenIo('controlnet-xlabs'), 'in.control_u8')
    const scale = floats(goldenIo('controlnet-xlabs'), 'const.scale')[0]!
    await expectTrajectory('controlnet-xlabs', '', () => ({
      controls: [{ attachment: XLABS, image, height: 48, width: 64, scale }],
    }))
  })

  test.each(['v1', 'v2'] as const)('ip-adapter %s', async (version) => {
    const path = await goldenWeights(`ip-adapter-${version}-tiny`)
    const io = goldenIo('ip-adapter')
    const embeds = floats(io, 'out.image_embeds')
    await using adapter = await IpAdapter.load(path, options)
    expectParity('ip-adapter', `${version}.out.image_proj`, await adapter.project(embeds))
    await flux.attach([{ kind: 'ip-adapter', path }])
    const scale = floats(io, 'const.scale')[0]!
    await expectTrajectory('ip-adapter', `${version}.`, () => ({ imagePrompts: [{ attachment: 0, embeds, scale }] }))
    await flux.attach([])
    const input = { ...dev33Case('ip-adapter'), img: dev33Start('ip-adapter'), timestep: 1 }
    expectParity('ip-adapter', 'out.pred_without_adapter', await flux.predict(input))
  })
}
