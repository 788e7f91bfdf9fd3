import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { packLatents } from '../../../lib/families/flux1/tokens.js'
import { blurMask, growMask, invertMask, resizeMask } from '../../../lib/images/edit-mask.js'
import { latentMask } from '../../../lib/images/latent-mask.js'
import { readMask } from '../../../lib/images/mask.js'
import { EXPECTED_NAMES, expectedBytes, expectedImage, expectedMask } from '../../support/expected-images.js'
import { readTensors } from '../../support/safetensors.js'
import { temporaryFolder } from '../../support/temporary.js'

const folder = temporaryFolder()
const mask = expectedMask('mask.in')

describe('readMask', () => {
  const grey = Buffer.from(Array.from({ length: 64 }, (_, i) => i * 4))
  const raw = { raw: { width: 8, height: 8, channels: 1 } } as const

  test('a grey file, 64 bytes for 8 x 8', async () => {
    const path = join(folder, 'mask.png')
    await writeFile(path, await sharp(grey, raw).toColourspace('b-w').png().toBuffer())
    expect(await readMask(path)).toEqual({ data: new Uint8Array(grey), width: 8, height: 8 })
  })

  test('grey pixels, and what readMask returned', async () => {
    const read = await readMask({ data: grey, width: 8, height: 8, channels: 1 })
    expect(read.data).toEqual(new Uint8Array(grey))
    expect(await readMask(read)).toEqual(read)
  })

  test('the brightness of colours is that of Pillow', async () => {
    expect((await readMask(expectedImage('grey.in'))).data).toEqual(expectedBytes('grey.out'))
  })

  test('transparent pixels of a mask stay', async () => {
    const rgba = Uint8Array.of(255, 255, 255, 0, 255, 255, 255, 255, 255, 255, 255, 100, 0, 0, 0, 255)
    expect([...(await readMask({ data: rgba, width: 2, height: 2 })).data]).toEqual([0, 255, 100, 0])
  })

  test('black instead of white', async () => {
    const data = Uint8Array.of(0, 100, 255)
    const options = { invert: true }
    expect([...(await readMask({ data, width: 3, height: 1, channels: 1 }, options)).data]).toEqual([255, 155, 0])
  })

  test("an image's transparent pixels, as OpenAI's API has them", async () => {
    const rgba = Buffer.from([200, 120, 40, 0, 1, 2, 3, 255, 4, 5, 6, 55, 7, 8, 9, 255])
    const png = await sharp(rgba, { raw: { width: 2, height: 2, channels: 4 } })
      .png()
      .toBuffer()
    expect(await readMask({ alphaOf: png })).toEqual({ data: Uint8Array.of(255, 0, 200, 0), width: 2, height: 2 })
  })

  test('an image without transparency has none', async () => {
    const png = await sharp(grey, raw).png().toBuffer()
    await expect(readMask({ alphaOf: png })).rejects.toMatchObject({
      code: 'FLUX_BAD_OPTION',
      message: expect.stringMatching(/^mask.alphaOf has no alpha channel/),
    })
  })

  test('messages name the mask', async () => {
    await expect(readMask(Buffer.from('no image'))).rejects.toThrow(/^mask is not an image file/)
    await expect(readMask(7 as any)).rejects.toThrow(/^mask is 7/)
    await expect(readMask(grey, { inverted: true } as any)).rejects.toThrow(/no inverted/)
  })
})

const named = (kind: string) =>
  EXPECTED_NAMES.flatMap((name) =>
    name.startsWith(`mask.${kind}.`) ? [Number(name.slice(`mask.${kind}.`.length))] : [],
  )

test.each(named('blur'))('a blur of %d is the same as with Pillow', (radius) => {
  expect(blurMask(mask, radius).data).toEqual(expectedBytes(`mask.blur.${radius}`))
})

test.each(named('grow'))('growing by %d is the same as with Pillow', (pixels) => {
  expect(growMask(mask, pixels).data).toEqual(expectedBytes(`mask.grow.${pixels}`))
})

test('every case is there', () => expect([named('blur').length, named('grow').length]).toEqual([5, 8]))

test('zero changes nothing, and the input is never changed', () => {
  const before = new Uint8Array(mask.data)
  expect(blurMask(mask, 0)).toEqual(mask)
  expect(growMask(mask, 0)).toEqual(mask)
  blurMask(mask, 3)
  growMask(mask, 3)
  expect(mask.data).toEqual(before)
})

test('a mask that is smaller than its blur', () => {
  const dot = { data: Uint8Array.of(255), width: 1, height: 1 }
  expect(blurMask(dot, 1024)).toEqual(dot)
  expect(growMask(dot, 1024)).toEqual(dot)
})

test('scaling is that of Pillow', () => {
  expect(resizeMask(mask, 33, 60, 'stretch').data).toEqual(expectedBytes('mask.stretch.33x60'))
  const padded = resizeMask({ data: Uint8Array.of(255), width: 1, height: 1 }, 4, 2, 'contain')
  expect([...padded.data]).toEqual([0, 255, 255, 0, 0, 255, 255, 0])
})

test.each([
  () => blurMask(mask, -1),
  () => blurMask(mask, NaN),
  () => growMask(mask, 1.5),
  () => growMask(mask, 1025),
  () => resizeMask(mask, 8, 8, 'none' as any),
  () => invertMask(null as any),
  () => invertMask({ ...mask, width: 3 }),
])('%s is refused', (call) => {
  expect(call).toThrow(expect.objectContaining({ code: expect.stringMatching(/FLUX_BAD_(OPTION|SHAPE)/) }))
})

describe('latentMask', () => {
  const golden = (name: string) =>
    readTensors(fileURLToPath(new URL(`../../golden/${name}.io.safetensors`, import.meta.url)))
  const [diffusers, comfy] = [golden('inpaint'), golden('inpaint-comfy')]
  const size = { width: 48, height: 64 }

  test.each(['s085', 's100'])("%s: diffusers' mask", (name) => {
    const given = { data: diffusers.get(`${name}.in.mask_u8`)!.data as Uint8Array, ...size }
    expect(latentMask(given, 'blend')).toEqual(diffusers.get(`${name}.out.mask_latent`)!.data)
    const packed = packLatents(latentMask(given, 'blend', 16), 8, 6)
    expect(packed).toEqual(diffusers.get(`${name}.out.mask_packed`)!.data)
  })

  test("ComfyUI's mask", () => {
    const expected = comfy.get('out.mask_latent')!.data as Float32Array
    const latent = latentMask({ data: comfy.get('in.mask_u8')!.data as Uint8Array, ...size }, 'denoised')
    expect(latent.length).toBe(expected.length)
    // errors.json: abs. <= 1e-6
    latent.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(1e-6))
  })

  test('other sizes and rules are refused', () => {
    expect(() => latentMask(mask, 'blend')).toThrow(/mask is 70 x 50/)
    expect(() => latentMask({ data: new Uint8Array(64), width: 8, height: 8 }, 'other' as any)).toThrow(
      /rule is 'other'/,
    )
  })

  const grey = { data: new Uint8Array(64), width: 8, height: 8 }
  const form = { code: 'FLUX_BAD_OPTION' }
  test.each<[unknown, unknown, unknown, object]>([
    [undefined, 'blend', 1, { ...form, message: 'mask is undefined: give { data, width, height }' }],
    [null, 'blend', 1, form],
    [{ ...grey, data: [1, 2] }, 'blend', 1, form],
    [{ ...grey, width: NaN }, 'blend', 1, form],
    [{ ...grey, width: 16 }, 'blend', 1, { code: 'FLUX_BAD_SHAPE' }],
    [grey, undefined, 1, form],
    ...[0, -1, 1.5, NaN, 4097, 1e12, '4'].map((channels) => [grey, 'blend', channels, form] as const),
  ] as [unknown, unknown, unknown, object][])('%o, rule %o, channels %o are refused', (mask, rule, channels, error) => {
    expect(() => latentMask(mask as never, rule as never, channels as never)).toThrow(expect.objectContaining(error))
  })
})
