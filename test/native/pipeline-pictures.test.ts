import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import { FluxError } from '../../lib/errors.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder } from '../../lib/nn.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { collect } from '../support/async.js'
import { longestStandstill } from '../support/clock.js'
import { patience } from '../support/patience.js'
import { loadTiny, SMALL, streamed } from '../support/tiny.js'

let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny({ textEncoders: 'keep' })
})
afterAll(() => pipe?.close())
afterEach(() => vi.restoreAllMocks())

const PNG = { ...SMALL, format: 'png' } as const

describe('text encoders', () => {
  test("'keep' and 'release' give the same bytes, and 'release' frees the encoders after every prompt", async () => {
    const spies = [vi.spyOn(T5Encoder, 'load'), vi.spyOn(ClipTextEncoder, 'load')]
    await using releasing = await loadTiny({ textEncoders: 'release' })
    expect(spies.map((spy) => spy.mock.calls.length)).toEqual([0, 0])
    for (const prompt of ['a red fox', 'a blue whale']) {
      const picture = await releasing.generate({ ...PNG, prompt })
      expect(Buffer.compare(picture, await pipe.generate({ ...PNG, prompt }))).toBe(0)
    }
    expect(spies.map((spy) => spy.mock.calls.length)).toEqual([2, 2])
    for (const loaded of spies.flatMap((spy) =>
      spy.mock.results.map(({ value }) => value as Promise<T5Encoder | ClipTextEncoder>),
    )) {
      const encoder = await loaded
      expect(encoder.memory()).toEqual({ weights: 0, mapped: 0, compute: 0 })
      await expect(encoder.encode(new Int32Array(8), { eos: 0 })).rejects.toThrow(
        expect.objectContaining({ code: 'FLUX_CLOSED' }),
      )
    }
  })

  test("'keep' holds their weights", async () => {
    const load = vi.spyOn(T5Encoder, 'load')
    await using keeping = await loadTiny({ textEncoders: 'keep' })
    await keeping.generate(SMALL)
    const { weights, mapped } = ((await load.mock.results[0]!.value) as T5Encoder).memory()
    expect(weights + mapped).toBeGreaterThan(5e5)
  })

  test('a prompt is encoded once, however many pictures; the last four are remembered', async () => {
    const encode = vi.spyOn(T5Encoder.prototype, 'encode')
    const fresh = { ...SMALL, prompt: 'remember me', maxSequenceLength: 512 }
    const first = await streamed(pipe, fresh)
    const second = await streamed(pipe, { ...fresh, seed: 2 })
    const third = await streamed(pipe, fresh)
    expect(encode).toHaveBeenCalledTimes(1)
    expect(Buffer.compare(first.image, third.image)).toBe(0)
    expect(Buffer.compare(first.image, second.image)).not.toBe(0)
    console.log(
      `the text stage: ${first.timings.text.toFixed(2)} ms, of the same prompt again ${second.timings.text.toFixed(2)} ms`,
    )
    await pipe.generate({ ...fresh, maxSequenceLength: 16 })
    expect(encode, 'another length is another embedding').toHaveBeenCalledTimes(2)
    for (const prompt of ['1', '2', '3', '4']) await pipe.generate({ ...fresh, prompt })
    await pipe.generate(fresh)
    expect(encode, 'forgotten by then').toHaveBeenCalledTimes(7)
  })

  test('which are those that were used last: a prompt that comes back all the time is encoded once', async () => {
    const encode = vi.spyOn(T5Encoder.prototype, 'encode')
    for (const prompt of [
      'always',
      'one',
      'always',
      'two',
      'always',
      'three',
      'always',
      'four',
      'always',
      'five',
      'always',
    ])
      await pipe.generate({ ...SMALL, prompt })
    expect(encode).toHaveBeenCalledTimes(6)
  })

  test('progress of loading rises to 1, also when networks are loaded during the picture', async () => {
    const told: number[] = []
    await using releasing = await loadTiny({ textEncoders: 'release', onProgress: (progress) => told.push(progress) })
    expect(told).toEqual([])
    await releasing.generate(SMALL)
    expect(told.toSorted((a, b) => a - b)).toEqual(told)
    expect(told.at(-1)).toBe(1)
  })
})

describe('the same picture', () => {
  test('for the same seed, another for another', async () => {
    const [a, b, c] = [await pipe.generate(PNG), await pipe.generate(PNG), await pipe.generate({ ...PNG, seed: 2 })]
    expect(Buffer.compare(a, b)).toBe(0)
    expect(Buffer.compare(a, c)).not.toBe(0)
  })

  test('a seed that was drawn is told, and gives the picture again', async () => {
    const { seed: _, ...unseeded } = SMALL
    const { image, seed } = await streamed(pipe, unseeded)
    expect(Buffer.compare(await pipe.generate({ ...SMALL, seed }), image)).toBe(0)
    expect((await streamed(pipe, unseeded)).seed).not.toBe(seed)
  })

  test.each([2, 3])('with %i threads instead of one', async (threads) => {
    const options = { ...SMALL, width: 128, height: 96, steps: 2, maxSequenceLength: 64 }
    await using other = await loadTiny({ threads })
    const [a, b] = [await pipe.generate(options), await other.generate(options)]
    const apart = Array.from(a, (byte, i) => Math.abs(byte - b[i]!))
    const different = apart.filter((d) => d > 0).length
    console.log(
      `${threads} threads against one: ${different} of ${a.length} bytes differ, by ${Math.max(...apart)} at most`,
    )
    expect(different).toBe(0)
  })
})

describe('previews', () => {
  const shown = async (preview: GenerateOptions['preview']) => {
    const events = await collect(pipe.stream({ ...SMALL, steps: 4, ...(preview ? { preview } : {}) }))
    const previews = events.flatMap((event) => (event.type === 'step' ? [event.preview] : []))
    const image = events.at(-1)!
    return { previews, image: (image.type === 'image' && image.image) as Buffer }
  }

  test('none unless asked for; every step, every second', async () => {
    expect((await shown(undefined)).previews).toEqual([undefined, undefined, undefined, undefined])
    expect(
      (await shown({})).previews.map((preview) => preview && [preview.width, preview.height, preview.data.length]),
    ).toEqual(Array.from({ length: 4 }, () => [8, 8, 192]))
    expect((await shown({ every: 2 })).previews.map(Boolean)).toEqual([false, true, false, true])
    expect((await shown({ every: 5 })).previews.map(Boolean)).toEqual([false, false, false, false])
  })

  test('with the autoencoder: full size, and at the last step the picture itself', async () => {
    // x0 of the last step is x - sigma * v, which is where Euler's step to sigma 0 leads
    const plain = await shown(undefined)
    const { previews, image } = await shown({ method: 'autoencoder' })
    expect(previews.map((preview) => [preview!.width, preview!.height])).toEqual(
      Array.from({ length: 4 }, () => [64, 64]),
    )
    expect(Buffer.compare(previews[3]!.data, image)).toBe(0)
    expect(Buffer.compare(previews[0]!.data, image)).not.toBe(0)
    expect(Buffer.compare(image, plain.image), 'watching changes nothing').toBe(0)
  })
})

test('generate() refuses a preview, which nobody would see', async () => {
  const options: GenerateOptions = { ...SMALL, preview: { method: 'autoencoder' } }
  await expect(pipe.generate(options)).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: expect.stringMatching(/^preview .*stream\(\)/) as string,
  })
})

test('a preview that fails is a warning, and there are no more; the picture is made', async () => {
  const expected = await streamed(pipe, { ...SMALL, steps: 2 })
  vi.spyOn(Autoencoder.prototype, 'decode').mockRejectedValueOnce(new FluxError('FLUX_BAD_FILE', 'no preview today'))
  const warned: string[] = []
  const events = await collect(
    pipe.stream({
      ...SMALL,
      steps: 2,
      preview: { method: 'autoencoder' },
      onWarning: (message) => warned.push(message),
    }),
  )
  expect(events.map(({ type }) => type)).toEqual(['stage', 'stage', 'warning', 'step', 'step', 'stage', 'image'])
  expect(warned).toEqual([expect.stringMatching(/^the preview of step 1 failed, .*no preview today/)])
  expect(events.filter((event) => event.type === 'step' && event.preview)).toEqual([])
  expect((events.at(-1) as { image: Buffer }).image.equals(expected.image)).toBe(true)
})

test.each([
  ['T5 encoder', T5Encoder, 'encode', (gives: Float32Array) => gives],
  ['CLIP encoder', ClipTextEncoder, 'encode', (pooled: Float32Array) => ({ pooled })],
  ['transformer', FluxTransformer, 'predict', (gives: Float32Array) => gives],
  ['decoder', Autoencoder, 'decode', (gives: Float32Array) => gives],
] as const)(
  'numbers of the %s that are not finite are an error, not a black picture',
  async (what, network, call, as) => {
    const infinite = new Float32Array(8).fill(1)
    infinite[5] = -Infinity
    const spy = vi
      .spyOn(network.prototype as unknown as Record<string, () => Promise<unknown>>, call)
      .mockResolvedValueOnce(as(infinite))
    const message = expect.stringMatching(
      new RegExp(`models/tiny/.*${what}.*-Infinity; expected finite numbers`),
    ) as string
    await expect(pipe.generate({ ...SMALL, steps: 3, prompt: `not finite: ${what}` })).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message,
    })
    expect(spy, 'at the first one').toHaveBeenCalledTimes(1)
  },
)

describe('prompts', () => {
  test.each([
    ['empty', ''],
    ['32768 characters', 'a fox. '.repeat(5000).slice(0, 32_768)],
    ['emoji', '🦊🧑‍🚀 over 月光 ​'],
    ['lone surrogates', 'fox \ud800 and \udc00\ud83e'],
    ['NUL', 'fo\0x \0'],
    ['an end token', 'a <|endoftext|> fox </s>'],
    ['line breaks', 'a fox\r\nNegative prompt: b\nSteps: 3'],
  ])('%s', async (_, prompt) => {
    const { image, truncated, parameters } = await streamed(pipe, { ...PNG, prompt, maxSequenceLength: 64 })
    const { width, height, comments } = await sharp(image).metadata()
    expect([width, height]).toEqual([64, 64])
    expect(comments).toEqual([{ keyword: 'parameters', text: Buffer.from(parameters).toString().replaceAll('\0', '') }])
    expect(parameters.startsWith(prompt.trim())).toBe(true)
    expect(truncated).toEqual(prompt.length > 1000 ? ['t5', 'clip'] : [])
  })

  test.each(['jpeg', 'webp', 'avif'] as const)(
    'the format %s carries the longest in ASCII, and refuses a longer one before any work',
    async (format) => {
      const { image, parameters } = await streamed(pipe, { ...SMALL, prompt: 'x'.repeat(32_768), format })
      expect((await sharp(image).metadata()).exif!.includes(parameters)).toBe(true)
      const encode = vi.spyOn(T5Encoder.prototype, 'encode')
      const tooLong = {
        code: 'FLUX_BAD_OPTION',
        message: expect.stringMatching(/^parameters .* has 32\d{3} characters/) as string,
      }
      await expect(pipe.generate({ ...SMALL, prompt: 'ü'.repeat(32_768), format })).rejects.toMatchObject(tooLong)
      expect(encode).not.toHaveBeenCalled()
    },
  )

  test.each(['jpeg', 'webp', 'avif'] as const)('the format %s carries them as well', async (format) => {
    const { image } = await streamed(pipe, { ...SMALL, prompt: 'a fox 🦊', format })
    const metadata = await sharp(image).metadata()
    expect(metadata.format).toBe(format === 'avif' ? 'heif' : format)
    const text = Buffer.from('Sampler: Euler', 'utf16le')
    expect(metadata.exif!.includes(text) || metadata.exif!.includes(text.swap16())).toBe(true)
  })
})

describe('steadiness', () => {
  test('the event loop is never blocked for 20 ms while pictures are made', async () => {
    const options = { ...PNG, width: 256, height: 256, steps: 2 }
    await pipe.generate(options)
    // a collection of garbage stops the loop as well
    const worst: number[] = []
    while (worst.length < 8 && !(Math.min(...worst) < 20)) {
      const picture = () => pipe.generate({ ...options, prompt: `try ${worst.length}` })
      worst.push((await longestStandstill(picture)).longest)
    }
    console.log(`longest gap of the event loop: ${worst.map((gap) => gap.toFixed(1)).join(', ')} ms`)
    expect(Math.min(...worst)).toBeLessThan(20 * patience)
  })
})
