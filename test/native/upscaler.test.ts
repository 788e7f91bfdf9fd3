import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { convert, inspect, upscaleImage, type RgbImage } from '../../lib/index.js'
import { Upscaler } from '../../lib/nn.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { onTestBackend } from '../support/backend.js'
import { rewrite } from '../support/dialects.js'
import { goldenIo, goldenValues, goldenWeights } from '../support/golden.js'
import { relL2 } from '../support/safetensors.js'

// Parity with the reference is in golden.test.ts.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-upscaler-'))
afterAll(() => rmSync(folder, { recursive: true }))

const x4 = join(folder, 'rrdb.safetensors')
const x2 = join(folder, 'rrdb-x2.safetensors')
const deep = join(folder, 'rrdb-deep.safetensors')
beforeAll(async () => {
  await synthesize({ architecture: 'rrdb-tiny', type: 'F32', seed: 5, path: x4 })
  await synthesize({ architecture: 'rrdb-tiny', config: { unshuffle: 2 }, type: 'F32', seed: 6, path: x2 })
  await synthesize({ architecture: 'rrdb-tiny', config: { blocks: 23 }, type: 'F32', seed: 7, path: deep })
})

/** soft noise in 0 to 1 */
function pixels(height: number, width: number): Float32Array {
  const values = new Float32Array(3 * height * width)
  goldenValues(values, { seed: 9, mean: 0.5, scale: 5e-6 })
  return values.map((value) => Math.min(1, Math.max(0, value)))
}

function photo(height: number, width: number): RgbImage {
  const planes = pixels(height, width)
  const plane = height * width
  const data = Uint8Array.from({ length: 3 * plane }, (_, i) => 255 * planes[(i % 3) * plane + Math.floor(i / 3)]!)
  return { data, width, height }
}

test.each([
  ['4 x', x4, 140, 100],
  ['4 x, with 23 blocks', deep, 30, 180],
  ['2 x, with sides that are no multiples of 2', x2, 203, 75],
])('in tiles the image is the same: %s', async (_, path, height, width) => {
  await using upscaler = await Upscaler.load(path, onTestBackend)
  const image = pixels(height, width)
  const progress: number[] = []
  const whole = await upscaler.upscale(image, height, width)
  const tiles = await upscaler.upscale(image, height, width, { tile: 32, onProgress: (done) => progress.push(done) })
  expect(whole).toHaveLength(3 * height * width * upscaler.scale ** 2)
  // two blocks read 34 pixels around each, 23 blocks 349; tiles have 32
  expect(relL2(tiles, whole)).toBeLessThan(1e-5)
  expect(progress.length).toBeGreaterThan(1)
  expect([...progress].sort((a, b) => a - b)).toEqual(progress)
  expect(progress.at(-1)).toBe(1)
})

test('a pixel is enlarged as well, and an image with an edge mirrored', async () => {
  await using upscaler = await Upscaler.load(x2, onTestBackend)
  expect(await upscaler.upscale(pixels(1, 1), 1, 1)).toHaveLength(12)
  const odd = pixels(3, 4)
  // row 3 mirrors row 1
  const even = Float32Array.from({ length: 3 * 4 * 4 }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / 16), Math.floor(i / 4) % 4, i % 4]
    return odd[12 * channel + 4 * (y === 3 ? 1 : y) + x]!
  })
  const expected = await upscaler.upscale(even, 4, 4)
  const actual = await upscaler.upscale(odd, 3, 4)
  for (let channel = 0; channel < 3; channel++)
    expect(actual.subarray(48 * channel, 48 * (channel + 1))).toEqual(
      expected.subarray(64 * channel, 64 * channel + 48),
    )
})

test('images of bytes become images of bytes, with alpha, whatever the tiles', async () => {
  const image = { ...photo(90, 120), alpha: new Uint8Array(90 * 120).fill(7) }
  const large = await upscaleImage(image, x4, onTestBackend)
  expect(large).toMatchObject({ width: 480, height: 360 })
  expect(large.alpha).toEqual(new Uint8Array(360 * 480).fill(7))
  await using upscaler = await Upscaler.load(x4, onTestBackend)
  const planes = Float32Array.from({ length: image.data.length }, (_, i) => {
    const [channel, pixel] = [Math.floor(i / 10_800), i % 10_800]
    return image.data[3 * pixel + channel]! / 255
  })
  const expected = await upscaler.upscale(planes, 90, 120)
  expect([...large.data.subarray(0, 3)]).toEqual(
    [0, 1, 2].map((channel) => new Uint8ClampedArray([255 * expected[channel * 360 * 480]!])[0]),
  )
  const tiled = await upscaler.upscaleImage(image, { tile: 32 })
  expect(tiled.data.filter((byte, i) => Math.abs(byte - large.data[i]!) > 1)).toHaveLength(0)
})

test('is inspected and converted; files of other programs give the same image', async () => {
  const old = await goldenWeights('rrdb-old-x2-tiny')
  expect(await inspect(old)).toMatchObject({
    role: 'upscaler',
    architecture: 'RRDBNet of 1 blocks, 2 x (ESRGAN, Real-ESRGAN)',
    config: { blocks: 1, features: 16, growth: 32, unshuffle: 1, doublings: 1 },
    problems: [],
    needs: [],
  })
  const gguf = join(folder, 'old.gguf')
  await convert(old, gguf, { type: 'F32' })
  expect(await inspect(gguf)).toMatchObject({ role: 'upscaler', format: 'gguf', problems: [] })
  const averaged = await rewrite(old, join(folder, 'averaged.safetensors'), (name, tensor) => [
    [`params_ema.${name}`, tensor],
  ])
  const io = goldenIo('rrdb')
  const image = io.get('old-x2.in.image')!
  const [, , height, width] = image.shape as [number, number, number, number]
  for (const path of [gguf, averaged]) {
    await using upscaler = await Upscaler.load(path, onTestBackend)
    const large = await upscaler.upscale(image.data as Float32Array, height, width)
    expect(relL2(large, io.get('old-x2.out.image')!.data)).toBeLessThan(1e-5)
  }
  const half = join(folder, 'half.gguf')
  await synthesize({ architecture: 'rrdb-tiny', type: 'F16', seed: 5, path: half })
  await using rounded = await Upscaler.load(half, onTestBackend)
  await using exact = await Upscaler.load(x4, onTestBackend)
  expect(relL2(await rounded.upscale(pixels(8, 8), 8, 8), await exact.upscale(pixels(8, 8), 8, 8))).toBeLessThan(2e-3)
})

test('memory is known before', async () => {
  const measured = await Upscaler.activationBytes(x4, 24, 32, onTestBackend)
  await using upscaler = await Upscaler.load(x4, onTestBackend)
  await upscaler.upscale(pixels(24, 32), 24, 32)
  expect(upscaler.memory().compute).toBe(measured)
})

test('one call at a time; a call that is cancelled, or whose listener throws, leaves the network usable', async () => {
  await using upscaler = await Upscaler.load(x4, onTestBackend)
  const image = pixels(140, 100)
  const controller = new AbortController()
  const running = upscaler.upscale(image, 140, 100, {
    tile: 32,
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  })
  await expect(upscaler.upscale(image, 140, 100)).rejects.toMatchObject({ code: 'FLUX_BUSY' })
  await expect(running).rejects.toThrow('enough')
  const fails = () => {
    throw new Error('listener')
  }
  await expect(upscaler.upscale(image, 140, 100, { onProgress: fails })).rejects.toThrow('listener')
  expect(await upscaler.upscale(pixels(4, 4), 4, 4)).toHaveLength(3 * 16 * 16)
})

test('what is wrong is refused with its name, its value and what to do', async () => {
  await using upscaler = await Upscaler.load(x4, onTestBackend)
  const refused = async (call: Promise<unknown>, code: string, message: RegExp) =>
    expect(call).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string })
  await refused(upscaler.upscale(pixels(4, 4), 4, 5), 'FLUX_BAD_SHAPE', /image has 48 numbers; 60 are needed/)
  await refused(upscaler.upscale(pixels(4, 4), 0, 4), 'FLUX_BAD_OPTION', /height is 0/)
  for (const tile of [16, 5000, 33.5])
    await refused(upscaler.upscale(pixels(4, 4), 4, 4, { tile }), 'FLUX_BAD_OPTION', /tile is .*from 32 to 4096/)
  await refused(
    upscaler.upscaleImage({ data: new Uint8Array(3 * 20_000), width: 20_000, height: 1 }),
    'FLUX_BAD_OPTION',
    /the image is 20000 x 1 pixels, too many to be made 4 times as large: give one of at most 16777216 pixels, with sides of at most 16384/,
  )
  await refused(
    upscaler.upscaleImage({ data: new Uint8Array(4), width: 1, height: 1 }),
    'FLUX_BAD_SHAPE',
    /image\.data has 4 values/,
  )
  const image = photo(4, 4)
  await refused(upscaleImage(image, ''), 'FLUX_BAD_OPTION', /upscaler is ''/)
  await refused(upscaleImage(image, x4, { scale: 2 } as never), 'FLUX_BAD_OPTION', /there is no scale in/)
  await refused(upscaleImage(image, join(folder, 'none.safetensors')), 'FLUX_NOT_FOUND', /none\.safetensors/)
  await refused(
    upscaleImage(image, await goldenWeights('redux-tiny')),
    'FLUX_BAD_FILE',
    /seems to be .*, not a network that enlarges images/,
  )
  const pickle = join(folder, 'RealESRGAN_x4plus.pth')
  writeFileSync(pickle, Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(100)]))
  await refused(upscaleImage(image, pickle), 'FLUX_BAD_FILE', /\.pth.*zip archive.*use a \.safetensors or \.gguf/)
  const broken = await rewrite(x4, join(folder, 'nan.safetensors'), (name, { shape, data }) => [
    [name, { shape, data: name === 'conv_body.bias' ? new Float32Array(data.length).fill(NaN) : data }],
  ])
  await refused(
    upscaleImage(image, broken, onTestBackend),
    'FLUX_BAD_FILE',
    /nan\.safetensors: the enlarged image has NaN; expected finite numbers/,
  )
})
