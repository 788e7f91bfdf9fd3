import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Conditioning } from '../../lib/families/conditioning.js'
import { toPlanes, type EncodeImage, type ReferencePlacement } from '../../lib/families/image-inputs.js'
import { bindTransformer, encodeImages } from '../../lib/families/flux1/conditioning.js'
import { packLatents, unpackLatents } from '../../lib/families/flux1/tokens.js'
import { toBytes } from '../../lib/images/pixels.js'
import { Autoencoder, FluxTransformer } from '../../lib/nn.js'
import { denoise } from '../../lib/sampling/denoise.js'
import type { Kept } from '../../lib/sampling/inpaint.js'
import { flow } from '../../lib/sampling/prediction.js'
import type { Predict } from '../../lib/sampling/samplers.js'
import { onAllThreads } from '../support/backend.js'
import { goldenErrors, goldenIo, goldenWeights, type GoldenCases, type GoldenModel } from '../support/golden.js'
import { printErrorTable, type ErrorRow } from '../support/parity.js'
import { relL2 } from '../support/safetensors.js'

// Images as inputs of FLUX.1, against the reference, F32 weights. The tolerances are those of the reference data.
const errors = goldenErrors()
const rows: ErrorRow[] = []
afterAll(() => printErrorTable('relative L2 of runs with images as input against the reference, F32 weights', rows))

const networks: Partial<Record<GoldenModel, FluxTransformer>> = {}
let vae: Autoencoder
beforeAll(async () => {
  for (const model of ['flux-dev-tiny', 'flux-fill-tiny', 'flux-control-tiny'] as const)
    networks[model] = await FluxTransformer.load(await goldenWeights(model), onAllThreads)
  vae = await Autoencoder.load(await goldenWeights('ae-tiny'), onAllThreads)
})
afterAll(() => Promise.all([vae?.close(), ...Object.values(networks).map((network) => network.close())]))

const encode: EncodeImage = async (image, height, width) => {
  const { scaleFactor, shiftFactor } = vae.config
  const { mean } = await vae.encode(image, height, width)
  return mean.map((value) => scaleFactor * (value - shiftFactor))
}

/** One case: its tensors by their names without the case's. */
function openCase(file: GoldenCases, name = '') {
  const io = goldenIo(file)
  const prefix = name && `${name}.`
  const find = (tensor: string) => io.get(prefix + tensor) ?? io.get(tensor)!
  const floats = (tensor: string) => find(tensor).data as Float32Array
  const noise = find('in.noise')
  const [, , height, width] = noise.shape as [number, number, number, number]
  return {
    floats,
    has: (tensor: string) => io.has(prefix + tensor),
    size: { width: 8 * width, height: 8 * height },
    rows: height,
    columns: width,
    noise: packLatents(noise.data as Float32Array, height, width),
    guidance: floats('const.guidance')[0]!,
    pixels(tensor: string) {
      const { data, shape } = find(tensor)
      return { data: data as Uint8Array, width: shape.at(-2)!, height: shape.at(-3)! }
    },
    bytes: (tensor: string) => find(tensor).data as Uint8Array,
    expectParity(tensor: string, actual: Float32Array) {
      const { rel_l2, max_abs, exact } = errors[`${file}.io.safetensors`]![prefix + tensor]!.suggested
      const expected = floats(tensor)
      expect(actual.length, tensor).toBe(expected.length)
      if (rel_l2 === undefined) {
        const apart = actual.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0)
        expect(apart, tensor).toBeLessThanOrEqual(exact ? 0 : max_abs!)
        return
      }
      const error = relL2(actual, expected)
      rows.push([`${file} ${prefix}${tensor}`, error, rel_l2])
      expect(error, tensor).toBeLessThanOrEqual(rel_l2)
    },
  }
}

type Case = ReturnType<typeof openCase>

function bind(
  { floats, size, guidance }: Case,
  model: GoldenModel,
  images: Record<string, Float32Array> = {},
): Predict {
  const tensors = { txt: floats('in.txt'), vec: floats('in.vec'), ...images }
  const request = { prompt: '', ...size, guidance, maxSequenceLength: 0 }
  const conditioning = { tensors, truncated: [] } as Conditioning
  return bindTransformer(networks[model]!, conditioning, request, new AbortController().signal)
}

/** Runs all steps and compares the first prediction, the state after each step, and the image. */
async function run(
  given: Case,
  predict: Predict,
  {
    latents = given.noise,
    sigmas = [...given.floats('out.timesteps')],
    keep,
  }: { latents?: Float32Array; sigmas?: number[]; keep?: Kept } = {},
) {
  let first = true
  const checked: Predict = async (x, sigma) => {
    const output = await predict(x, sigma)
    if (first && given.has('out.pred.0')) given.expectParity('out.pred.0', output)
    first = false
    return output
  }
  let last = latents
  for await (const state of denoise({ predict: checked, latents, sigmas, keep })) {
    given.expectParity(`out.latents.${state.step - 1}`, state.latents)
    last = state.latents
  }
  if (!given.has('out.image_u8')) return
  const image = await vae.decode(unpackLatents(last, given.rows, given.columns), given.rows, given.columns)
  const expected = given.bytes('out.image_u8')
  const apart = [...toBytes(image, given.size.width, given.size.height)].map((byte, i) => Math.abs(byte - expected[i]!))
  expect(Math.max(...apart)).toBeLessThanOrEqual(2)
  expect(apart.filter((d) => d === 0).length / apart.length).toBeGreaterThanOrEqual(0.9)
}

test('Fill: image and mask next to the channels', async () => {
  const given = openCase('fill')
  const images = { image: given.pixels('in.image_u8'), mask: given.bytes('in.mask_u8') }
  const tokens = await encodeImages(images, given.size, encode)
  given.expectParity('out.img_cond', tokens.channels!)
  await run(given, bind(given, 'flux-fill-tiny', tokens))
})

test('Canny and Depth: a control image next to the channels', async () => {
  const given = openCase('control')
  const tokens = await encodeImages({ control: given.pixels('in.control_u8') }, given.size, encode)
  given.expectParity('out.img_cond', tokens.channels!)
  await run(given, bind(given, 'flux-control-tiny', tokens))
})

test('Kontext: a reference image after the image tokens', async () => {
  const given = openCase('kontext')
  const tokens = await encodeImages({ references: [given.pixels('in.reference_u8')] }, given.size, encode)
  given.expectParity('out.img_cond_seq', tokens.references!)
  given.expectParity('out.img_cond_seq_ids', tokens.referenceIds!)
  await run(given, bind(given, 'flux-dev-tiny', tokens))
})

describe.each(['a', 'b'])('Kontext with two references, case %s', (name) => {
  const given = openCase('kontext-two', name)
  const references = [given.pixels('in.reference_0_u8'), given.pixels('in.reference_1_u8')]

  test('placed by offset', async () => {
    const tokens = await encodeImages({ references }, given.size, encode)
    given.expectParity('out.img_cond_seq', tokens.references!)
    given.expectParity('out.img_cond_seq_ids', tokens.referenceIds!)
    await run(given, bind(given, 'flux-dev-tiny', tokens))
  })

  test.each(['index', 'uxo'] as ReferencePlacement[])('placed by %s', async (placement) => {
    const tokens = await encodeImages({ references, placement }, given.size, encode)
    given.expectParity(`out.${placement}.img_cond_seq_ids`, tokens.referenceIds!)
    const predict = bind(given, 'flux-dev-tiny', tokens)
    given.expectParity(`out.${placement}.pred.0`, await predict(given.noise, given.floats('out.timesteps')[0]!))
  })
})

async function startFrom(given: Case, sigma: number): Promise<{ image: Float32Array; latents: Float32Array }> {
  const { width, height } = given.size
  const latent = await encode(toPlanes(given.pixels('in.image_u8')), height, width)
  given.expectParity('out.x0', latent)
  const image = packLatents(latent, given.rows, given.columns)
  const latents = flow.noised(image, given.noise, sigma)
  given.expectParity('out.x_t', unpackLatents(latents, given.rows, given.columns))
  return { image, latents }
}

test.each([
  ['img2img', ''],
  ['img2img-diffusers', 'a'],
  ['img2img-diffusers', 'b'],
  ['img2img-diffusers', 'edge'],
] as const)('%s %s: from an image with noise', async (file, name) => {
  const given = openCase(file, name)
  const { latents } = await startFrom(given, given.floats('out.timesteps')[0]!)
  await run(given, bind(given, 'flux-dev-tiny'), { latents })
})

test.each(['s085', 's100'])('inpainting as diffusers does it, case %s', async (name) => {
  const given = openCase('inpaint', name)
  const { image, latents } = await startFrom(given, given.floats('out.timesteps')[0]!)
  const keep: Kept = { image, noise: given.noise, mask: given.floats('out.mask_packed'), rule: 'blend' }
  await run(given, bind(given, 'flux-dev-tiny'), { latents, keep })
})

test.each(['d100', 'd060'])('inpainting as ComfyUI does it, case %s', async (name) => {
  const given = openCase('inpaint-comfy', name)
  const sigmas = [...given.floats('const.sigmas')]
  const { width, height } = given.size
  const image = packLatents(
    await encode(toPlanes(given.pixels('in.image_u8')), height, width),
    given.rows,
    given.columns,
  )
  const latents = flow.noised(image, given.noise, sigmas[0]!)
  given.expectParity('out.x_t', unpackLatents(latents, given.rows, given.columns))
  // the same mask for all channels
  const latentMask = given.floats('out.mask_latent')
  const mask = packLatents(
    Float32Array.from({ length: 16 * latentMask.length }, (_, i) => latentMask[i % latentMask.length]!),
    given.rows,
    given.columns,
  )
  await run(given, bind(given, 'flux-dev-tiny'), {
    latents,
    sigmas,
    keep: { image, noise: given.noise, mask, rule: 'denoised' },
  })
})
