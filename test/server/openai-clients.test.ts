import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateImage } from 'ai'
import OpenAI, { toFile } from 'openai'
import { beforeAll, describe, expect, test } from 'vitest'
import { encodeImage } from '../../lib/images/encode.js'
import { readImage } from '../../lib/images/read-image.js'
import { loadTiny } from '../support/tiny.js'
import { startServer, until, type TestServer } from '../support/server.js'

// The official clients against a real server: what they get is what a pipeline draws with the same options.

const PROMPT = 'a small red circle'
const SIZE = { width: 64, height: 64 }
const small = { size: '64x64' as never, steps: 2, seed: 7 }

let server: TestServer
let openai: OpenAI
/** drawn without the server */
let expected: Buffer
beforeAll(async () => {
  server = await startServer()
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none' })
  await using pipe = await loadTiny({ backend: 'cpu' })
  expected = await pipe.generate({ prompt: PROMPT, ...SIZE, steps: 2, seed: 7 })
})

const jobsNow = async () => (await (await fetch(`${server.url}/health`)).json()) as { waiting: number; running: number }
const pixels = async (png: Buffer) => Buffer.from((await readImage(png)).data)

describe('openai', () => {
  test('images.generate', async () => {
    const answer = await openai.images.generate({ prompt: PROMPT, ...small } as never)
    const image = Buffer.from(answer.data![0]!.b64_json!, 'base64')
    expect(Buffer.compare(image, expected)).toBe(0)
    expect(answer).toMatchObject({
      size: '64x64',
      output_format: 'png',
      background: 'opaque',
      usage: { total_tokens: 0 },
    })
    expect(Math.abs(answer.created - Date.now() / 1000)).toBeLessThan(10)
  })

  test("with OpenAI's own names of models, sizes and fields that mean nothing here", async () => {
    const { data, response } = await openai.images
      .generate({ model: 'gpt-image-1.5', prompt: PROMPT, n: 2, quality: 'low', moderation: 'low', ...small } as never)
      .withResponse()
    const seeds = (data as unknown as { data: { seed: number }[] }).data.map(({ seed }) => seed)
    expect(seeds).toEqual([7, 8])
    expect(response.headers.get('x-ggflux-warning')).toBe('gpt-image-1.5 is drawn by tiny; ignored: moderation')
  })

  test('response_format url: an address of this server that answers with the image', async () => {
    const answer = await openai.images.generate({ prompt: PROMPT, response_format: 'url', ...small } as never)
    const url = answer.data![0]!.url!
    expect(url.startsWith(`${server.url}/v1/jobs/`)).toBe(true)
    expect(Buffer.compare(Buffer.from(await (await fetch(url)).arrayBuffer()), expected)).toBe(0)
  })

  test('output_format and output_compression', async () => {
    const answer = await openai.images.generate({
      prompt: PROMPT,
      output_format: 'webp',
      output_compression: 50,
      ...small,
    } as never)
    const image = Buffer.from(answer.data![0]!.b64_json!, 'base64')
    expect(image.subarray(8, 12).toString()).toBe('WEBP')
  })

  test('stream with partial images: previews of the right size, then the image', async () => {
    const stream = await openai.images.generate({
      prompt: PROMPT,
      stream: true,
      partial_images: 3,
      ...small,
      steps: 8,
    } as never)
    const events = []
    for await (const event of stream as unknown as AsyncIterable<OpenAI.ImageGenStreamEvent>) events.push(event)
    expect(events.map(({ type }) => type)).toEqual([
      ...Array.from({ length: 3 }, () => 'image_generation.partial_image'),
      'image_generation.completed',
    ])
    for (const [i, event] of events.slice(0, 3).entries()) {
      expect(event).toMatchObject({ partial_image_index: i, size: '64x64', output_format: 'png' })
      expect(await readImage(Buffer.from(event.b64_json, 'base64'))).toMatchObject(SIZE)
    }
    // previews come closer to the image
    const last = await pixels(Buffer.from(events[3]!.b64_json, 'base64'))
    const distances = await Promise.all(
      events.slice(0, 3).map(async ({ b64_json }) => {
        const preview = await pixels(Buffer.from(b64_json, 'base64'))
        return preview.reduce((sum, byte, i) => sum + (byte - last[i]!) ** 2, 0)
      }),
    )
    expect(distances[2]).toBeLessThan(distances[0]!)
  })

  test('a stream that is left in the middle cancels its job', async () => {
    const stream = await openai.images.generate({
      ...{ prompt: PROMPT, size: '512x512', stream: true, partial_images: 3, steps: 20 },
    } as never)
    for await (const event of stream as unknown as AsyncIterable<{ type: string }>) {
      expect(event.type).toBe('image_generation.partial_image')
      break
    }
    await until(async () => (await jobsNow()).running === 0, 'the end of the job')
  })

  test('an abort while the image is made cancels its job within a step', async () => {
    const controller = new AbortController()
    const call = openai.images.generate({ prompt: PROMPT, size: '512x512', steps: 100 } as never, {
      signal: controller.signal,
    })
    call.catch(() => {})
    await until(async () => (await jobsNow()).running === 1, 'the job')
    controller.abort()
    await expect(call).rejects.toThrow(OpenAI.APIUserAbortError)
    const began = Date.now()
    await until(async () => (await jobsNow()).running === 0, 'the end of the job')
    expect(Date.now() - began).toBeLessThan(5000)
  })

  test('images.edit with one image: as the pipeline does it', async () => {
    const photo = await encodeImage(
      new Uint8Array(64 * 64 * 3).map((_, i) => (i * 7) % 256),
      64,
      64,
    )
    const answer = await openai.images.edit({
      ...{
        image: await toFile(photo, 'photo.png', { type: 'image/png' }),
        prompt: PROMPT,
        steps: 4,
        seed: 3,
        strength: 0.5,
      },
    } as never)
    await using pipe = await loadTiny({ backend: 'cpu' })
    const direct = await pipe.generate({ prompt: PROMPT, image: photo, steps: 4, seed: 3, strength: 0.5 })
    expect(Buffer.compare(Buffer.from(answer.data![0]!.b64_json!, 'base64'), direct)).toBe(0)
  })

  test('images.edit with a mask: alpha 0 is drawn anew, the rest stays', async () => {
    const sharp = (await import('sharp')).default
    const grey = await sharp({ create: { ...SIZE, channels: 3, background: '#808080' } })
      .png()
      .toBuffer()
    const left = Buffer.alloc(64 * 64 * 4, 255)
    for (let y = 0; y < 64; y++) for (let x = 0; x < 32; x++) left[(y * 64 + x) * 4 + 3] = 0
    const mask = await sharp(left, { raw: { ...SIZE, channels: 4 } })
      .png()
      .toBuffer()
    const answer = await openai.images.edit({
      image: await toFile(grey, 'photo.png', { type: 'image/png' }),
      mask: await toFile(mask, 'mask.png', { type: 'image/png' }),
      ...{ prompt: PROMPT, steps: 4, seed: 3, strength: 1, only_masked: true },
    } as never)
    const drawn = await pixels(Buffer.from(answer.data![0]!.b64_json!, 'base64'))
    const far = (x: number, y: number) => Math.abs(drawn[(y * 64 + x) * 3]! - 128)
    const mean = (from: number) =>
      Array.from({ length: 32 * 64 }, (_, i) => far(from + (i % 32), i >> 5)).reduce((a, b) => a + b) / (32 * 64)
    expect(mean(32)).toBe(0)
    expect(mean(0)).toBeGreaterThan(10)
  })

  test('images.edit with a stream: events by the names for edits', async () => {
    const photo = await encodeImage(new Uint8Array(96 * 64 * 3).fill(99), 96, 64)
    const stream = await openai.images.edit({
      image: await toFile(photo, 'photo.png', { type: 'image/png' }),
      ...{ prompt: PROMPT, stream: true, partial_images: 1, steps: 4 },
    } as never)
    const events = []
    for await (const event of stream as unknown as AsyncIterable<OpenAI.ImageEditStreamEvent>) events.push(event)
    expect(events.map(({ type, size }) => [type, size])).toEqual([
      ['image_edit.partial_image', '96x64'],
      ['image_edit.completed', '96x64'],
    ])
  })

  test('images.edit as JSON with data URIs', async () => {
    const photo = (await encodeImage(new Uint8Array(64 * 64 * 3).fill(99), 64, 64)).toString('base64')
    const body = { prompt: PROMPT, images: [{ image_url: `data:image/png;base64,${photo}` }], steps: 2 }
    const answer = (await openai.post('/images/edits', { body })) as { data: { b64_json: string }[] }
    expect((await readImage(Buffer.from(answer.data[0]!.b64_json, 'base64'))).width).toBe(64)
  })

  test('images.createVariation without Redux: an error that says what to do', async () => {
    const image = await toFile(await encodeImage(new Uint8Array(64 * 64 * 3), 64, 64), 'a.png', { type: 'image/png' })
    const error = await openai.images.createVariation({ image }).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(OpenAI.BadRequestError)
    expect((error as Error).message).toMatch(/Redux/)
  })

  test('models.list and models.retrieve', async () => {
    const models = await openai.models.list()
    expect(models.data[0]).toMatchObject({ id: 'tiny', object: 'model', owned_by: 'ggflux' })
    expect(await openai.models.retrieve('tiny')).toMatchObject({ id: 'tiny', defaults: { width: 128, steps: 8 } })
    await expect(openai.models.retrieve('nothing')).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
  })

  test('errors are of their classes, name the field, and are not tried again', async () => {
    const before = server.log.length
    const bad = await openai.images
      .generate({ prompt: PROMPT, size: '100x100' } as never)
      .catch((error: unknown) => error)
    expect(bad).toBeInstanceOf(OpenAI.BadRequestError)
    expect(bad).toMatchObject({ status: 400, param: 'width', type: 'invalid_request_error', code: 'FLUX_BAD_OPTION' })
    expect((bad as Error).message).toMatch(/multiple of 16/)
    await until(() => server.log.length > before, 'the log of the request')
    expect(server.log.slice(before).filter(({ msg }) => msg === 'request')).toHaveLength(1)
  })
})

describe('ai with @ai-sdk/openai-compatible', () => {
  const provider = () => createOpenAICompatible({ name: 'ggflux', baseURL: `${server.url}/v1` })

  test('generateImage', async () => {
    const { image, warnings } = await generateImage({
      ...{ model: provider().imageModel('tiny'), prompt: PROMPT, size: '64x64' },
      providerOptions: { ggflux: { steps: 2, seed: 7 } },
    })
    expect(Buffer.compare(Buffer.from(image.uint8Array), expected)).toBe(0)
    expect(warnings).toEqual([])
  })

  test('generateImage with an image: an edit', async () => {
    const photo = await encodeImage(
      new Uint8Array(64 * 64 * 3).map((_, i) => (i * 7) % 256),
      64,
      64,
    )
    const { image } = await generateImage({
      model: provider().imageModel('tiny'),
      prompt: { text: PROMPT, images: [photo] },
      providerOptions: { ggflux: { steps: 4, seed: 3, strength: 0.5 } },
    })
    await using pipe = await loadTiny({ backend: 'cpu' })
    const direct = await pipe.generate({ prompt: PROMPT, image: photo, steps: 4, seed: 3, strength: 0.5 })
    expect(Buffer.compare(Buffer.from(image.uint8Array), direct)).toBe(0)
  })

  test('four images with a name that it does not know are four requests at once, each answered', async () => {
    const { images } = await generateImage({
      ...{ model: provider().imageModel('tiny'), prompt: PROMPT, size: '64x64', n: 4 },
      providerOptions: { ggflux: { steps: 1 } },
    })
    expect(new Set(images.map(({ base64 }) => base64)).size).toBe(4)
  })

  test('an abort cancels the job', async () => {
    const controller = new AbortController()
    const call = generateImage({
      ...{ model: provider().imageModel('tiny'), prompt: PROMPT, size: '512x512', abortSignal: controller.signal },
      providerOptions: { ggflux: { steps: 100 } },
    })
    call.catch(() => {})
    await until(async () => (await jobsNow()).running === 1, 'the job')
    controller.abort()
    await expect(call).rejects.toThrow()
    await until(async () => (await jobsNow()).running === 0, 'the end of the job')
  })

  test('its errors show the cause', async () => {
    const call = generateImage({ model: provider().imageModel('nothing'), prompt: PROMPT, maxRetries: 0 })
    await expect(call).rejects.toThrow(/there is no model 'nothing'/)
  })
})
