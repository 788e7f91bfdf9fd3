import { execFile } from 'node:child_process'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { deflateSync } from 'node:zlib'
import sharp, { type Sharp } from 'sharp'
import { describe, expect, test } from 'vitest'
import { FluxError } from '../../../lib/errors.js'
import { pngChunks } from '../../../lib/images/png-chunks.js'
import { readImage } from '../../../lib/images/read-image.js'
import { longestStandstill } from '../../support/clock.js'
import { makePng, pngChunk } from '../../support/png.js'
import { temporaryFolder } from '../../support/temporary.js'

const [WIDTH, HEIGHT] = [37, 23]
const folder = temporaryFolder()

/** [23, 37, channels] with slow waves; alpha from 0 to 255 */
function waves(channels: 3 | 4): Buffer {
  return Buffer.from(
    Array.from({ length: WIDTH * HEIGHT * channels }, (_, i) => {
      const [x, y, c] = [Math.floor(i / channels) % WIDTH, Math.floor(i / (channels * WIDTH)), i % channels]
      return Math.round(127.5 * (1 + Math.sin(x / 9 + c) * Math.cos(y / 7 - c)))
    }),
  )
}

const from = (channels: 3 | 4) => sharp(waves(channels), { raw: { width: WIDTH, height: HEIGHT, channels } })

/** what sharp shows on white */
async function shown(file: Buffer): Promise<Uint8Array> {
  const image = sharp(file).rotate().flatten({ background: '#fff' }).toColourspace('srgb')
  return new Uint8Array(await image.raw().toBuffer())
}

function largestDifference(a: Uint8Array, b: Uint8Array): number {
  expect(a.length).toBe(b.length)
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)
}

const files: Record<string, () => Promise<Buffer>> = {
  'PNG RGB': () => from(3).png().toBuffer(),
  'PNG RGBA': () => from(4).png().toBuffer(),
  'PNG grey': () => from(3).toColourspace('b-w').png().toBuffer(),
  'PNG palette': () => from(3).png({ palette: true }).toBuffer(),
  'PNG palette with alpha': () => from(4).png({ palette: true, colours: 200 }).toBuffer(),
  'PNG palette of 4 colours': () => from(3).png({ palette: true, colours: 4 }).toBuffer(),
  'PNG interlaced': () => from(4).png({ progressive: true }).toBuffer(),
  'PNG in Display P3': () => from(4).withIccProfile('p3').png().toBuffer(),
  'PNG turned': () => from(3).withMetadata({ orientation: 6 }).png().toBuffer(),
  JPEG: () => from(3).jpeg().toBuffer(),
  'JPEG grey': () => from(3).toColourspace('b-w').jpeg().toBuffer(),
  'JPEG turned': () => from(3).withMetadata({ orientation: 8 }).jpeg().toBuffer(),
  'JPEG in Display P3': () => from(3).withIccProfile('p3').jpeg().toBuffer(),
  'JPEG CMYK': () => from(3).toColourspace('cmyk').jpeg().toBuffer(),
  'JPEG CMYK with a profile': () => from(3).toColourspace('cmyk').withIccProfile('cmyk').jpeg().toBuffer(),
  WebP: () => from(3).webp().toBuffer(),
  'WebP with alpha': () => from(4).webp({ lossless: true, exact: true }).toBuffer(),
  AVIF: () => from(3).avif().toBuffer(),
  'AVIF with alpha': () => from(4).avif().toBuffer(),
  GIF: () => from(3).gif().toBuffer(),
}

test.each(Object.entries(files))('%s: the pixels that a viewer shows', async (name, make) => {
  const file = await make()
  const image = await readImage(file)
  const turned = name.endsWith('turned')
  expect([image.width, image.height]).toEqual(turned ? [HEIGHT, WIDTH] : [WIDTH, HEIGHT])
  expect(largestDifference(image.data, await shown(file))).toBeLessThanOrEqual(1)
  expect(image.alpha !== undefined).toBe(/RGBA|alpha|interlaced|PNG in Display P3/.test(name))
})

test('a file is read by its content, from a path as well, whatever its name', async () => {
  const path = join(folder, 'wrong.gif')
  await writeFile(path, await from(3).png().toBuffer())
  expect((await readImage(path)).data).toEqual(new Uint8Array(waves(3)))
})

test.each(['gif', 'webp'] as const)('of an animated %s the first frame', async (format) => {
  const frames = Buffer.concat([Buffer.alloc(8 * 8 * 3, 255), Buffer.alloc(8 * 8 * 3, 0)])
  const raw = { width: 8, height: 16, channels: 3, pageHeight: 8 } as const
  const file = await sharp(frames, { raw })
    .toFormat(format, { delay: [100, 100] })
    .toBuffer()
  expect((await sharp(file).metadata()).pages).toBe(2)
  expect(await readImage(file)).toMatchObject({ data: new Uint8Array(8 * 8 * 3).fill(255), width: 8, height: 8 })
})

describe('transparent pixels', () => {
  test.each(['png', 'webp', 'avif'] as const)('%s: on white, on any colour, or as stored', async (format) => {
    const rgba = Buffer.from([200, 120, 40, 0, 200, 120, 40, 128, 200, 120, 40, 255, 0, 0, 0, 255])
    const options = { lossless: true, exact: true }
    const file = await sharp(rgba, { raw: { width: 2, height: 2, channels: 4 } })
      .toFormat(format, format === 'png' ? {} : options)
      .toBuffer()
    const white = await readImage(file)
    expect(white.alpha).toEqual(Uint8Array.of(0, 128, 255, 255))
    // (200 * 128 + 255 * 127) / 255 = 227.39, 187.24, 147.08
    expect([...white.data.subarray(0, 9)]).toEqual([255, 255, 255, 227, 187, 147, 200, 120, 40])
    expect([...(await readImage(file, { background: [0, 255, 0] })).data.subarray(0, 3)]).toEqual([0, 255, 0])
    expect([...(await readImage(file, { background: 'keep' })).data.subarray(0, 3)]).toEqual([200, 120, 40])
  })

  test('one colour of grey or RGB', async () => {
    const rgb = [
      [9, 8, 7, 1, 2, 3],
      [1, 2, 3, 1, 2, 4],
    ]
    const chunks = [{ type: 'tRNS', data: Uint8Array.of(0, 1, 0, 2, 0, 3) }]
    const image = await readImage(makePng({ width: 2, height: 2, depth: 8, colourType: 2, rows: rgb, chunks }))
    expect(image.alpha).toEqual(Uint8Array.of(255, 0, 0, 255))
    expect([...image.data]).toEqual([9, 8, 7, 255, 255, 255, 255, 255, 255, 1, 2, 4])

    const grey = { width: 4, height: 1, depth: 2, colourType: 0, rows: [[0b00011011]] }
    const transparent = await readImage(makePng({ ...grey, chunks: [{ type: 'tRNS', data: Uint8Array.of(0, 2) }] }))
    expect(transparent.alpha).toEqual(Uint8Array.of(255, 255, 0, 255))
    expect([...transparent.data].filter((_, i) => i % 3 === 0)).toEqual([0, 85, 255, 255])
  })
})

describe('bit depths', () => {
  test.each([
    [1, [0b10110000], [255, 0, 255, 255]],
    [2, [0b00011011], [0, 85, 170, 255]],
    [4, [0x0f, 0x5a], [0, 255, 85, 170]],
    // sharp cuts these to 0, 255, 0, 255
    [16, [0, 129, 255, 0, 0, 128, 255, 255], [1, 254, 0, 255]],
  ])('grey of %i bits is scaled and rounded', async (depth, row, expected) => {
    const image = await readImage(makePng({ width: 4, height: 1, depth, colourType: 0, rows: [row] }))
    expect([...image.data].filter((_, i) => i % 3 === 0)).toEqual(expected)
    expect(image.alpha).toBeUndefined()
  })

  test('16 bits with alpha', async () => {
    const rows = [[200, 0, 120, 0, 40, 0, 128, 0]]
    const png = makePng({ width: 1, height: 1, depth: 16, colourType: 6, rows })
    const { data, alpha } = await readImage(png, { background: 'keep' })
    // x * 256 / 257
    expect([...data, ...alpha!]).toEqual([199, 120, 40, 128])
  })

  // sharp by itself gives Display P3's numbers for these, (185, 71, 65)
  test.each([
    ['PNG', (image: Sharp) => image.toColourspace('rgb16').png()],
    ['AVIF', (image: Sharp) => image.avif({ bitdepth: 10, lossless: true })],
  ])('more than 8 in Display P3: %s', async (_, encode) => {
    const plain = sharp(
      Buffer.alloc(64 * 3).map((_, i) => [200, 60, 60][i % 3]!),
      {
        raw: { width: 8, height: 8, channels: 3 },
      },
    )
    const image = await readImage(await encode(plain.withIccProfile('p3')).toBuffer())
    expect(largestDifference(image.data.subarray(0, 3), Uint8Array.of(200, 60, 60))).toBeLessThanOrEqual(2)
  })
})

test.each(['png', 'jpeg', 'webp'] as const)('ignoreProfile takes the numbers of a %s as sRGB', async (format) => {
  const red = sharp({ create: { width: 8, height: 8, channels: 3, background: { r: 200, g: 60, b: 60 } } })
  const file = await red.withIccProfile('p3').toFormat(format, { quality: 100 }).toBuffer()
  const first = async (options: object) => (await readImage(file, options)).data.subarray(0, 3)
  expect(largestDifference(await first({}), Uint8Array.of(200, 60, 60))).toBeLessThanOrEqual(3)
  expect(largestDifference(await first({ ignoreProfile: true }), Uint8Array.of(185, 71, 65))).toBeLessThanOrEqual(3)
})

describe('orientation', () => {
  // an F, which no turn or reflection maps onto itself
  const F = [
    [0, 0, 0],
    [0, 255, 255],
    [0, 0, 255],
    [0, 255, 255],
    [0, 255, 255],
  ]
  test.each([1, 2, 3, 4, 5, 6, 7, 8])('%i is as sharp turns it', async (orientation) => {
    const data = Buffer.from(F.flat())
    const tagged = sharp(data, { raw: { width: 3, height: 5, channels: 1 } }).withMetadata({ orientation })
    const png = await tagged.png().toBuffer()
    const { data: expected, info } = await sharp(png)
      .rotate()
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true })
    expect(await readImage(png)).toEqual({ data: new Uint8Array(expected), width: info.width, height: info.height })
  })

  test.each([0, 9, 65535])('%i means upright', async (orientation) => {
    const exif = Buffer.from(
      `4d4d002a0000000800010112000300000001${orientation.toString(16).padStart(4, '0')}0000`,
      'hex',
    )
    const rows = [[1, 2, 3]]
    const chunks = [{ type: 'eXIf', data: exif }]
    const image = await readImage(makePng({ width: 3, height: 1, depth: 8, colourType: 0, rows, chunks }))
    expect([image.width, image.height]).toEqual([3, 1])
  })
})

describe('pixels of the caller', () => {
  test('1, 3 and 4 channels, copied', async () => {
    const grey = { data: Uint8Array.of(1, 2), width: 2, height: 1, channels: 1 } as const
    expect(await readImage(grey)).toEqual({ data: Uint8Array.of(1, 1, 1, 2, 2, 2), width: 2, height: 1 })
    const rgba = { data: Uint8Array.of(200, 120, 40, 0), width: 1, height: 1 }
    expect(await readImage(rgba)).toEqual({
      data: Uint8Array.of(255, 255, 255),
      alpha: Uint8Array.of(0),
      width: 1,
      height: 1,
    })
    expect(rgba.data).toEqual(Uint8Array.of(200, 120, 40, 0))
  })

  test('what readImage returned', async () => {
    const image = await readImage(await from(4).png().toBuffer(), { background: 'keep' })
    expect(await readImage(image, { background: 'keep' })).toEqual(image)
    expect((await readImage(image)).data).toEqual((await readImage(await from(4).png().toBuffer())).data)
  })

  test.each([
    [{ data: new Uint8Array(5), width: 2, height: 1 }, 'FLUX_BAD_OPTION', 'image.channels is 2.5'],
    [{ data: new Uint8Array(5), width: 2, height: 1, channels: 3 as const }, 'FLUX_BAD_SHAPE', 'needs 6'],
    [{ data: new Uint8Array(0), width: 0, height: 1 }, 'FLUX_BAD_OPTION', 'image.width is 0'],
    [{ data: [1, 2, 3] as any, width: 1, height: 1 }, 'FLUX_BAD_OPTION', 'image.data'],
    [{ data: new Uint8Array(3), width: 1, height: 1, alpha: new Uint8Array(2) }, 'FLUX_BAD_SHAPE', 'image.alpha.data'],
    [undefined as any, 'FLUX_BAD_OPTION', 'give a path'],
    [7 as any, 'FLUX_BAD_OPTION', 'image is 7'],
    ['', 'FLUX_BAD_OPTION', "image is ''"],
  ])('%o is refused', async (source, code, message) => {
    const error = await readImage(source).catch((error) => error)
    expect(error).toBeInstanceOf(FluxError)
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) })
  })
})

describe('what is refused', () => {
  const refusal = (source: string | Uint8Array, options = {}) => readImage(source, options).catch((error) => error)

  test('30,000 x 30,000 pixels, from the header', async () => {
    const bomb = makePng({ width: 30_000, height: 30_000, depth: 8, colourType: 2, rows: [] })
    expect(await refusal(bomb)).toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: 'image is 30000 x 30000: expected at most 67108864 pixels (maxPixels); save the image smaller',
    })
    const jpeg = await from(3).jpeg().toBuffer()
    const size = jpeg.indexOf(Buffer.from([0, HEIGHT, 0, WIDTH]))
    jpeg.writeUInt32BE(30_000 * 65537, size)
    expect(await refusal(jpeg)).toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringContaining('30000 x 30000'),
    })
  })

  test('maxPixels', async () => {
    const png = await from(3).png().toBuffer()
    expect((await readImage(png, { maxPixels: WIDTH * HEIGHT })).width).toBe(WIDTH)
    expect(await refusal(png, { maxPixels: WIDTH * HEIGHT - 1, name: 'control' })).toMatchObject({
      message: expect.stringMatching(/^control is 37 x 23/),
    })
    expect(await refusal(png, { maxPixels: 0 })).toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })

  test('wrong options', async () => {
    const png = await from(3).png().toBuffer()
    expect(await refusal(png, { background: [0, 0, 256] })).toMatchObject({
      message: expect.stringContaining('background[2]'),
    })
    expect(await refusal(png, { background: 'white' })).toMatchObject({ code: 'FLUX_BAD_OPTION' })
    expect(await refusal(png, { backgroud: [0, 0, 0] })).toMatchObject({
      message: expect.stringContaining('no backgroud'),
    })
  })

  test('files that are none, or not there', async () => {
    const missing = join(folder, 'missing.png')
    expect(await refusal(missing)).toMatchObject({ code: 'FLUX_NOT_FOUND', message: expect.stringContaining(missing) })
    expect(await refusal(folder)).toMatchObject({ code: 'FLUX_BAD_FILE' })
    expect(await refusal('a\0b')).toMatchObject({ code: 'FLUX_BAD_FILE' })
    expect(await refusal('/dev/zero')).toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining('not a file'),
    })
    await promisify(execFile)('mkfifo', [join(folder, 'pipe')])
    expect(await refusal(join(folder, 'pipe'))).toMatchObject({ message: expect.stringContaining('not a file') })
    expect(await refusal(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'))).toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining('begins with "<svg xml"'),
    })
    expect(await refusal(Buffer.alloc(0))).toMatchObject({ message: 'image is empty: give another file' })
  })

  test('HEIC, which the usual build of sharp does not decode', async () => {
    const avif = await from(3).avif().toBuffer()
    const heic = Buffer.from(avif.toString('latin1').replaceAll('avif', 'heic').replaceAll('av01', 'hvc1'), 'latin1')
    expect(await refusal(heic)).toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringContaining('convert it to JPEG or PNG'),
    })
  })

  test('an interlaced PNG that inflates to more than its pixels', async () => {
    const png = await from(3).png({ progressive: true }).toBuffer()
    const idat = png.indexOf('IDAT') - 4
    const bomb = pngChunk('IDAT', deflateSync(Buffer.alloc(50_000_000)))
    const hostile = Buffer.concat([png.subarray(0, idat), bomb, pngChunk('IEND', Buffer.alloc(0))])
    expect(await refusal(hostile)).toMatchObject({ code: 'FLUX_BAD_FILE' })
  })
})

describe('damaged files', () => {
  const kinds = ['PNG RGBA', 'PNG interlaced', 'PNG palette', 'PNG in Display P3', 'JPEG', 'WebP', 'AVIF', 'GIF']

  test.each(kinds)('%s: truncated anywhere', async (kind) => {
    const file = await files[kind]!()
    for (let i = 0; i < 60; i++) {
      const end = Math.floor((i / 60) * file.length * 0.97)
      const error = await readImage(file.subarray(0, end)).catch((error) => error)
      expect(error, `${end} of ${file.length} bytes`).toBeInstanceOf(FluxError)
      expect(error.code, error.message).toMatch(/FLUX_BAD_FILE|FLUX_UNSUPPORTED/)
    }
  })

  test.each(kinds)('%s: random bytes changed', async (kind) => {
    const file = await files[kind]!()
    let state = 1
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    for (let i = 0; i < 120; i++) {
      const mutated = Buffer.from(file)
      // half of the changes hit the headers
      for (let k = 0; k <= i % 4; k++) mutated[random(k % 2 ? file.length : Math.min(file.length, 120))] = random(256)
      const image = await readImage(mutated, { maxPixels: 4_000_000 }).catch((error) => error)
      if (image instanceof Error) {
        expect(image, String(image.stack)).toBeInstanceOf(FluxError)
        expect((image as FluxError).code).toMatch(/FLUX_BAD_FILE|FLUX_UNSUPPORTED/)
      } else expect(image.data.length).toBe(image.width * image.height * 3)
    }
  })
})

test.each(['PNG RGBA', 'PNG interlaced', 'PNG palette', 'PNG palette with alpha'])(
  '%s: chunks changed, with right checksums',
  async (kind) => {
    const file = new Uint8Array(await files[kind]!())
    const chunks = [...pngChunks(file)]
    let state = 3
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const results = new Set<string>()
    for (let i = 0; i < 300; i++) {
      const at = random(chunks.length)
      const parts = chunks.map(({ type, data }, k) => {
        if (k !== at) return pngChunk(type, data)
        if (i % 3 === 0) return Buffer.alloc(0)
        if (i % 3 === 1) return pngChunk(type, data.subarray(0, random(data.length + 1)))
        const changed = Buffer.from(data)
        if (data.length > 0) changed[random(data.length)] = random(256)
        return pngChunk(type, changed)
      })
      const mutated = Buffer.concat([file.subarray(0, 8), ...parts])
      const image = await readImage(mutated, { maxPixels: 1_000_000 }).catch((error) => error)
      if (image instanceof Error) expect(image, String(image.stack)).toBeInstanceOf(FluxError)
      else expect(image.data.length).toBe(image.width * image.height * 3)
      results.add(image instanceof Error ? (image as FluxError).code : 'read')
    }
    expect([...results]).toEqual(expect.arrayContaining(['read', 'FLUX_BAD_FILE']))
  },
)

test('the event loop goes on while a large PNG is decoded', async () => {
  const [width, height] = [3000, 2000]
  const file = await sharp({ create: { width, height, channels: 4, background: '#c83c3c80' } })
    .png()
    .toBuffer()
  const { longest } = await longestStandstill(() => readImage(file))
  expect(longest).toBeLessThan(100)
})

test('without sharp: PNG, its orientation and sRGB; other files and profiles say what to install', async () => {
  const root = fileURLToPath(new URL('../../../', import.meta.url))
  await mkdir(join(folder, 'node_modules'))
  await cp(join(root, 'dist'), join(folder, 'dist'), { recursive: true })
  await cp(join(root, 'package.json'), join(folder, 'package.json'))
  await symlink(join(root, 'node_modules/pngjs'), join(folder, 'node_modules/pngjs'))
  const named = { plain: 'PNG turned', p3: 'PNG in Display P3', jpeg: 'JPEG' }
  for (const [name, kind] of Object.entries(named)) await writeFile(join(folder, name), await files[kind]!())
  await writeFile(join(folder, 'srgb'), await from(3).withIccProfile('srgb').png().toBuffer())
  const script = `
    import { readImage } from '${pathToFileURL(join(folder, 'dist/images/read-image.js'))}'
    const size = async (name, options) => readImage(name, options).then(({ width }) => width, ({ code, message }) => code + ' ' + message)
    console.log(JSON.stringify([await size('plain'), await size('srgb'), await size('p3'), await size('p3', { ignoreProfile: true }), await size('jpeg')]))`
  const { stdout } = await promisify(execFile)('node', ['--input-type=module', '-e', script], { cwd: folder })
  const [plain, srgb, p3, ignored, jpeg] = JSON.parse(stdout)
  expect([plain, srgb, ignored]).toEqual([HEIGHT, WIDTH, WIDTH])
  expect(p3).toMatch(
    /^FLUX_UNSUPPORTED image "p3" with the colour profile '.*P3.*' needs the package sharp: run npm install sharp/,
  )
  expect(jpeg).toMatch(
    /^FLUX_UNSUPPORTED image "jpeg" \(JPEG\) needs the package sharp: run npm install sharp, or give a PNG file/,
  )
})
