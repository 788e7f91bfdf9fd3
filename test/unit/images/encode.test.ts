import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { crc32 } from 'node:zlib'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { encodeImage, type EncodeOptions } from '../../../lib/images/encode.js'
import { toByte, toBytes } from '../../../lib/images/pixels.js'
import { longestStandstill } from '../../support/clock.js'
import { readTensors } from '../../support/safetensors.js'

const run = promisify(execFile)
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const golden = readTensors(here('../../golden/pipeline-dev-tiny.io.safetensors'))

const CHINESE_AND_EMOJI = '一只猫在月光下, 🙂 café\nSteps: 4, Sampler: Euler'

/** [height, width, 3] with slow waves */
function smooth(width: number, height: number): Uint8Array {
  return Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const [x, y, c] = [Math.floor(i / 3) % width, Math.floor(i / (3 * width)), i % 3]
    return 127.5 * (1 + Math.sin(x / 97 + c) * Math.cos(y / 71 - c))
  })
}

const pixels = async (file: Buffer) => new Uint8Array(await sharp(file).raw().toBuffer())

/** chunks of a PNG in order, their checksums verified */
function pngChunks(file: Buffer): { type: string; data: Buffer }[] {
  const chunks = []
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at)
    const body = file.subarray(at + 4, at + 8 + length)
    expect(file.readUInt32BE(at + 8 + length)).toBe(crc32(body))
    chunks.push({ type: body.toString('latin1', 0, 4), data: body.subarray(4) })
    at += length + 12
  }
  return chunks
}

test('bytes are exactly those of the reference', () => {
  const image = golden.get('out.image')!.data as Float32Array
  expect(toBytes(image, 128, 96)).toEqual(golden.get('out.image_u8')!.data)
})

test('bytes are cut off, clamped, and 0 for NaN', () => {
  const values: [number, number][] = [
    [-1, 0],
    [1, 255],
    [0, 127],
    [0.999, 254],
    [-7, 0],
    [7, 255],
    [Infinity, 255],
    [-Infinity, 0],
    [NaN, 0],
  ]
  expect(values.map(([x]) => toByte(x))).toEqual(values.map(([, byte]) => byte))
})

test('bytes are computed in float32', () => {
  // numpy: (np.float32(127.5) * (np.float32(x) + np.float32(1))).astype(np.uint8); float64 gives one less
  const values: [number, number][] = [
    [-0.2, 102],
    [-0.11372549831867218, 113],
    [-0.02745099924504757, 124],
    [0.372548997402191, 175],
  ]
  expect(values.map(([x]) => toByte(Math.fround(x)))).toEqual(values.map(([, byte]) => byte))
})

test('a PNG decodes to the same pixels elsewhere', async () => {
  const rgb = golden.get('out.image_u8')!.data as Uint8Array
  for (const compression of [undefined, 0, 9] as const) {
    const file = await encodeImage(rgb, 128, 96, compression === undefined ? {} : { compression })
    expect(await sharp(file).metadata()).toMatchObject({
      format: 'png',
      width: 128,
      height: 96,
      channels: 3,
      depth: 'uchar',
    })
    expect(await pixels(file)).toEqual(rgb)
  }
})

test('an ASCII text stands in a tEXt chunk before the picture', async () => {
  const file = await encodeImage(smooth(8, 8), 8, 8, { parameters: 'a fox\nSteps: 4' })
  const chunks = pngChunks(file)
  expect(chunks.map(({ type }) => type)).toEqual(['IHDR', 'tEXt', 'IDAT', 'IEND'])
  expect(chunks[1]!.data.toString('latin1')).toBe('parameters\0a fox\nSteps: 4')
  expect((await sharp(file).metadata()).comments).toEqual([{ keyword: 'parameters', text: 'a fox\nSteps: 4' }])
  expect(await pixels(file)).toEqual(smooth(8, 8))
})

test('any other text stands in an iTXt chunk in UTF-8', async () => {
  const file = await encodeImage(smooth(8, 8), 8, 8, { parameters: `${CHINESE_AND_EMOJI}\0` })
  const chunks = pngChunks(file)
  expect(chunks.map(({ type }) => type)).toEqual(['IHDR', 'iTXt', 'IDAT', 'IEND'])
  expect(chunks[1]!.data.toString('utf8')).toBe(`parameters\0\0\0\0\0${CHINESE_AND_EMOJI}`)
  expect((await sharp(file).metadata()).comments).toEqual([{ keyword: 'parameters', text: CHINESE_AND_EMOJI }])
})

test.each(['jpeg', 'webp', 'avif'] as const)('%s holds the picture and its text as UserComment', async (format) => {
  const rgb = smooth(64, 48)
  const text = `${CHINESE_AND_EMOJI}${' and so on'.repeat(300)}`
  const file = await encodeImage(rgb, 64, 48, { format, parameters: text })
  const { exif, width, height } = await sharp(file).metadata()
  expect([width, height]).toEqual([64, 48])
  expect(userComment(exif!)).toBe(text)
  const decoded = await pixels(file)
  expect(Math.max(...decoded.map((value, i) => Math.abs(value - rgb[i]!)))).toBeLessThan(24)
  const plain = await encodeImage(rgb, 64, 48, { format, quality: 20 })
  expect((await sharp(plain).metadata()).exif).toBeUndefined()
  expect(plain.length).toBeLessThan(file.length)
})

test.each(['jpeg', 'webp', 'avif'] as const)(
  '%s carries the longest text that is allowed, in ASCII and beyond',
  async (format) => {
    for (const parameters of ['a line\n(x)'.padEnd(65_000, '.'), 'ü'.repeat(32_500)]) {
      const file = await encodeImage(smooth(8, 8), 8, 8, { format, parameters })
      expect(userComment((await sharp(file).metadata()).exif!) === parameters).toBe(true)
    }
  },
)

/** the tag UserComment (0x9286) of the Exif directory (0x8769), by the charset that stands before the text */
function userComment(exif: Buffer): string {
  const tiff = exif.subarray(exif.indexOf('II*\0', 'latin1'))
  const entry = (directory: number, tag: number) => {
    for (let i = 0; i < tiff.readUInt16LE(directory); i++) {
      const at = directory + 2 + i * 12
      if (tiff.readUInt16LE(at) === tag) return { count: tiff.readUInt32LE(at + 4), value: tiff.readUInt32LE(at + 8) }
    }
    throw new Error(`no tag ${tag.toString(16)}`)
  }
  const { count, value } = entry(entry(tiff.readUInt32LE(4), 0x8769).value, 0x9286)
  const charset = tiff.toString('latin1', value, value + 8)
  if (charset === 'ASCII\0\0\0') return tiff.toString('latin1', value + 8, value + count).replace(/\0$/, '')
  expect(charset).toBe('UNICODE\0')
  return Buffer.from(tiff.subarray(value + 8, value + count))
    .swap16()
    .toString('utf16le')
}

test('raw is the bytes themselves, copied', async () => {
  const rgb = smooth(4, 4)
  const file = await encodeImage(rgb, 4, 4, { format: 'raw' })
  expect(new Uint8Array(file)).toEqual(rgb)
  rgb.fill(0)
  expect(file.some((value) => value !== 0)).toBe(true)
})

test('several pictures at once come back each to its caller, and the input stays usable', async () => {
  const inputs = [0, 60, 120, 180, 240].map((value) => new Uint8Array(30 * 20 * 3).fill(value))
  const files = await Promise.all(inputs.map((rgb) => encodeImage(rgb, 30, 20)))
  for (const [i, file] of files.entries()) expect(await pixels(file)).toEqual(inputs[i])
})

// an encoder on the main thread would make it stand still for 100 ms every time, a collection of garbage now and then
test('the event loop goes on while a 1024 x 1024 PNG is made', { retry: 3 }, async () => {
  const rgb = smooth(1024, 1024)
  const { longest, turns } = await longestStandstill(() => encodeImage(rgb, 1024, 1024))
  console.log(
    `1024 x 1024 PNG: the event loop turned ${turns} times and stood still for ${longest.toFixed(1)} ms at most`,
  )
  expect(turns).toBeGreaterThan(4)
  expect(longest).toBeLessThan(20)
})

const bad: [string, EncodeOptions][] = [
  ["format is 'gif': give one of png, jpeg, webp, avif, raw", { format: 'gif' as 'png' }],
  ['quality is 0: give a whole number from 1 to 100', { format: 'jpeg', quality: 0 }],
  ['quality is 80.5', { format: 'webp', quality: 80.5 }],
  ['the format png has no quality', { quality: 80 }],
  ['compression is 10: give a whole number from 0 to 9', { compression: 10 as 9 }],
  ['the format avif has no compression', { format: 'avif', compression: 3 }],
  [
    'parameters (the prompt and how the image is made) has 65001 characters',
    { format: 'jpeg', parameters: 'x'.repeat(65_001) },
  ],
  [
    'has 32501 characters; expected at most 65000 in ASCII, 32500 otherwise',
    { format: 'webp', parameters: 'ü'.repeat(32_501) },
  ],
]
test.each(bad)('refused: %s', async (message, options) => {
  const error = { code: 'FLUX_BAD_OPTION', message: expect.stringContaining(message) }
  await expect(encodeImage(smooth(2, 2), 2, 2, options)).rejects.toMatchObject(error)
})

test('sizes that do not fit are refused', async () => {
  const error = { code: 'FLUX_BAD_SHAPE', message: expect.stringContaining('needs 18') }
  expect(() => toBytes(new Float32Array(12), 2, 3)).toThrow(expect.objectContaining(error))
  await expect(encodeImage(new Uint8Array(0), 0, 2)).rejects.toMatchObject({ code: 'FLUX_BAD_SHAPE' })
})

/** runs a module in its own process, from the compiled files */
const child = (directory: string, body: string) => {
  const code = `import { encodeImage } from ${JSON.stringify(pathToFileURL(join(directory, 'images/encode.js')))}\n${body}`
  return run(process.execPath, ['--input-type=module', '-e', code], { timeout: 8000 })
}

const PIXELS = 'new Uint8Array(12), 2, 2'

/** the compiled library where no package can be found */
async function withoutPackages(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ggflux-'))
  try {
    await cp(here('../../../dist'), directory, { recursive: true })
    await writeFile(join(directory, 'package.json'), '{"type":"module"}')
    await use(directory)
  } finally {
    await rm(directory, { recursive: true })
  }
}

test('the process leaves by itself once its picture is made', async () => {
  // well before the thread's ten idle seconds are over: the time limit of the child is shorter
  const { stdout } = await child(here('../../../dist'), `console.log((await encodeImage(${PIXELS})).length)`)
  expect(Number(stdout)).toBeGreaterThan(50)
})

test('without sharp the error says what to install', () =>
  withoutPackages(async (directory) => {
    const { stdout } = await child(
      directory,
      `await encodeImage(${PIXELS}, { format: 'webp' }).catch((e) => console.log(e.code, e.message))`,
    )
    expect(stdout).toMatch(/^FLUX_UNSUPPORTED format 'webp' needs the package sharp: run npm install sharp/)
  }))

test('a thread that cannot start rejects the call instead of leaving it open', () =>
  withoutPackages(async (directory) => {
    const { stdout } = await child(
      directory,
      `await encodeImage(${PIXELS}).catch((e) => console.log(e.code, e.message, e.cause.message))`,
    )
    expect(stdout).toMatch(/^FLUX_CRASHED .*pngjs/)
  }))
