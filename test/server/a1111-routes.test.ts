import { mkdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeImage } from '../../lib/images/encode.js'
import { readImage } from '../../lib/images/read-image.js'
import { readParameters } from '../../lib/images/read-parameters.js'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { onTestBackend } from '../support/backend.js'
import { loraFile, numbers, RANK, tensorSource } from '../support/lora.js'
import { postJson, startServer, until, type TestServer } from '../support/server.js'
import { temporaryFolder } from '../support/temporary.js'
import { loadTiny } from '../support/tiny.js'
import { SmallQueue } from './small-queue.js'

const PROMPT = 'a small red circle'
const SMALL = { prompt: PROMPT, width: 64, height: 64, seed: 5 }

const folder = temporaryFolder()
const paths = { lora: join(folder, 'loras', 'sub', 'style.safetensors'), upscaler: '' }
let server: TestServer
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny()
  mkdirSync(join(folder, 'loras', 'sub'), { recursive: true })
  mkdirSync(join(folder, 'upscale_models'))
  const { hiddenSize } = pipe.config
  const layer = 'lora_unet_double_blocks_1_img_mlp_2'
  await loraFile(paths.lora, [
    tensorSource(`${layer}.lora_down.weight`, numbers([RANK, 4 * hiddenSize], 1, 0.3)),
    tensorSource(`${layer}.lora_up.weight`, numbers([hiddenSize, RANK], 2, 0.3)),
  ])
  paths.upscaler = join(folder, 'upscale_models', '4x-tiny.safetensors')
  await synthesize({ architecture: 'rrdb-tiny', type: 'F32', seed: 5, path: paths.upscaler })
  // addresses of clients come from a header, so that there can be several
  server = await startServer({
    models: folder,
    load: onTestBackend,
    trustProxy: 1,
    aliases: { 'dall-e-3': 'tiny' },
    limits: { perClient: 2 },
  })
})
afterAll(() => pipe?.close())

interface Answer {
  response: Response
  body: any
  info: any
  /** files */
  images: Buffer[]
}

async function post(route: string, body: object, headers: Record<string, string> = {}): Promise<Answer> {
  const { response, body: answer } = await postJson(`${server.url}/sdapi/v1/${route}`, body, headers)
  const images = (answer?.images ?? []).map((image: string) => Buffer.from(image, 'base64'))
  return { response, body: answer, info: answer?.info && JSON.parse(answer.info), images }
}

const get = async (route: string, headers: Record<string, string> = {}): Promise<any> =>
  (await fetch(`${server.url}/sdapi/v1/${route}`, { headers })).json()
const from = (address: string) => ({ 'x-forwarded-for': address })
const warning = ({ response }: Answer) => response.headers.get('x-ggflux-warning')

const pixels = async (file: Buffer) => Buffer.from((await readImage(file)).data)
/** drawn without the server, as RGB */
const drawn = (options: Partial<GenerateOptions>) => pipe.generate({ ...SMALL, ...options, format: 'raw' })

async function expectDrawn(answer: Answer, options: Partial<GenerateOptions>, which = 0): Promise<void> {
  expect(answer.response.status, JSON.stringify(answer.body).slice(0, 500)).toBe(200)
  expect(Buffer.compare(await pixels(answer.images[which]!), await drawn(options))).toBe(0)
}

describe('txt2img', () => {
  test('draws what a pipeline draws, with its settings in the file and in info', async () => {
    const answer = await post('txt2img', { ...SMALL, negative_prompt: 'blue', batch_size: 2, n_iter: 1 })
    await expectDrawn(answer, {})
    await expectDrawn(answer, { seed: 6 }, 1)
    expect(answer.info).toMatchObject({
      ...{ prompt: PROMPT, all_prompts: [PROMPT, PROMPT], negative_prompt: 'blue', seed: 5, all_seeds: [5, 6] },
      ...{ width: 64, height: 64, sampler_name: 'Euler', steps: 8, cfg_scale: 1, batch_size: 2 },
      ...{ sd_model_name: 'tiny', index_of_first_image: 0 },
    })
    for (const [i, image] of answer.images.entries())
      expect((await readParameters(image))!.text).toBe(answer.info.infotexts[i])
    expect(answer.body.parameters).toEqual({ ...SMALL, negative_prompt: 'blue', batch_size: 2, n_iter: 1 })
  })

  test('a size between multiples of 16: the answer has the real one', async () => {
    const answer = await post('txt2img', { ...SMALL, width: 88, height: 71 })
    await expectDrawn(answer, { width: 96, height: 64 })
    expect(answer.info).toMatchObject({ width: 96, height: 64 })
    expect(answer.info.infotexts[0]).toContain('Size: 96x64')
    expect(warning(answer)).toBe('width 88 is drawn as 96; height 71 is drawn as 64')
  })

  test('a variation', async () => {
    const answer = await post('txt2img', { ...SMALL, subseed: 9, subseed_strength: 0.5, batch_size: 2 })
    await expectDrawn(answer, { variation: { seed: 10, strength: 0.5 } }, 1)
    expect(answer.info).toMatchObject({ all_seeds: [5, 5], all_subseeds: [9, 10], subseed_strength: 0.5 })
  })

  test('an image that is enlarged, by a network of the catalogue too', async () => {
    const body = { ...SMALL, enable_hr: true, denoising_strength: 0.5 }
    const answer = await post('txt2img', body)
    await expectDrawn(answer, { hires: { scale: 2, strength: 0.5, upscale: 'latent' } })
    expect(answer.info).toMatchObject({ width: 128, height: 128, denoising_strength: 0.5 })
    const byNetwork = await post('txt2img', { ...body, hr_upscaler: '4x-tiny', hr_resize_x: 96, hr_resize_y: 64 })
    await expectDrawn(byNetwork, { hires: { width: 96, height: 64, strength: 0.5, upscaler: paths.upscaler } })
  })

  test('a LoRA in the prompt', async () => {
    const answer = await post('txt2img', { ...SMALL, prompt: `<lora:style:0.7>${PROMPT}` })
    await expectDrawn(answer, { loras: [{ path: paths.lora, scale: 0.7 }] })
    expect(Buffer.compare(await pixels(answer.images[0]!), await drawn({}))).not.toBe(0)
    const missing = await post('txt2img', { ...SMALL, prompt: `<lora:other:1>${PROMPT}` })
    expect(missing.response.status).toBe(404)
    expect(missing.body.detail).toBe("the prompt asks for the LoRA 'other', which does not exist; there are sub/style")
  })

  test('true CFG with a negative prompt, where the server allows it', async () => {
    const owner = await startServer({ a1111Settings: true, load: onTestBackend })
    const body = { ...SMALL, cfg_scale: 3, negative_prompt: 'blue', steps: 3 }
    const { body: answer, response } = await postJson(`${owner.url}/sdapi/v1/txt2img`, body)
    const image = Buffer.from(answer.images[0], 'base64')
    const expected = await drawn({ trueCfg: 3, negativePrompt: 'blue', steps: 3 })
    expect(Buffer.compare(await pixels(image), expected)).toBe(0)
    expect(JSON.parse(answer.info)).toMatchObject({ cfg_scale: 3, steps: 3 })
    expect(response.headers.get('x-ggflux-warning')).toBeNull()
  })

  test('send_images false: all but the images', async () => {
    const { body, info } = await post('txt2img', { ...SMALL, send_images: false })
    expect(body.images).toEqual([])
    expect(info.infotexts).toHaveLength(1)
  })

  test('fields without a meaning here never fail, whatever they are', async () => {
    const others = {
      styles: ['a'],
      alwayson_scripts: 7,
      tiling: 'x',
      script_args: {},
      s_noise: [1],
      restore_faces: null,
    }
    const answer = await post('txt2img', { ...SMALL, ...others, override_settings: { sd_vae: 3 }, hr_upscaler: null })
    await expectDrawn(answer, {})
    expect(warning(answer)).toBe('ignored: styles, alwayson_scripts, tiling, script_args, s_noise')
    // as pydantic, numbers in text are numbers
    await expectDrawn(await post('txt2img', { ...SMALL, seed: '5', width: 64.0, cfg_scale: '7.5' }), {})
  })

  test.each([
    [{ steps: 'many' }, 'steps must be integer'],
    [{ width: [64] }, 'width must be integer'],
    [{ denoising_strength: 2 }, 'denoising_strength must be <= 1'],
    [{ override_settings: 'none' }, 'override_settings must be object'],
    [{ batch_size: 50 }, 'count is 50: this server allows at most 10'],
    [{ width: 16 }, 'width is 16: give a multiple of 16 from 64 to 4096; 64 is nearest'],
  ])('%j is an error in the form of A1111', async (body, detail) => {
    const { response, body: error } = await post('txt2img', { ...SMALL, ...body })
    expect(response.status).toBe(400)
    expect(error).toEqual({ error: 'FLUX_BAD_OPTION', detail, body: '', errors: detail })
  })
})

describe('the model', () => {
  test.each([
    { model: 'tiny' },
    { model: 'dall-e-3' },
    { override_settings: { sd_model_checkpoint: 'tiny.safetensors [6ce0161689]' }, model: 'missing' },
    { override_settings: { sd_model_checkpoint: null } },
  ])('%j', async (body) => {
    await expectDrawn(await post('txt2img', { ...SMALL, ...body }), {})
  })

  test.each([{ model: 'missing' }, { override_settings: { sd_model_checkpoint: 'missing' } }])(
    '%j does not exist',
    async (body) => {
      const { response, body: error } = await post('txt2img', { ...SMALL, ...body })
      expect(response.status).toBe(404)
      expect(error.detail).toBe("there is no model 'missing'; there are tiny, dall-e-3")
    },
  )
})

describe('img2img', () => {
  const side = 64
  const init = () => pipe.generate({ ...SMALL, seed: 1 })
  /** white on the right half */
  const half = () => {
    const rgb = new Uint8Array(side * side * 3)
    for (let i = 0; i < rgb.length; i++) rgb[i] = Math.floor(i / 3) % side < side / 2 ? 0 : 255
    return encodeImage(rgb, side, side)
  }

  test('from an image', async () => {
    const image = await init()
    const body = { ...SMALL, prompt: 'a blue square', init_images: [image.toString('base64')], width: 96 }
    const answer = await post('img2img', { ...body, denoising_strength: 0.5 })
    await expectDrawn(answer, { prompt: 'a blue square', image, strength: 0.5, width: 96, resize: 'stretch' })
    expect(answer.body.parameters).not.toHaveProperty('init_images')
    expect(answer.info.denoising_strength).toBe(0.5)
  })

  test('within a mask, whole or only the masked part', async () => {
    const [image, mask] = [await init(), await half()]
    const body = { ...SMALL, init_images: [image.toString('base64')], mask: mask.toString('base64') }
    const same = { image, mask, strength: 0.75, maskBlur: 4, resize: 'stretch' } as const
    await expectDrawn(await post('img2img', { ...body, inpaint_full_res: false }), same)
    await expectDrawn(await post('img2img', { ...body, inpaint_full_res_padding: 8 }), {
      ...same,
      onlyMasked: { padding: 8 },
    })
    const inverted = await post('img2img', {
      ...body,
      inpaint_full_res: false,
      inpainting_mask_invert: 1,
      mask_blur: 0,
    })
    const left = await pixels(await half())
    const mirrored = await encodeImage(
      left.map((value) => 255 - value),
      side,
      side,
    )
    await expectDrawn(inverted, { ...same, mask: mirrored, maskBlur: 0 })
  })

  test('what is no image is an error of the request', async () => {
    for (const wrong of ['AAAA', '!', 'https://example.com/a.png']) {
      const { response, body } = await post('img2img', { ...SMALL, init_images: [wrong] })
      expect(response.status, wrong).toBe(400)
      expect(body.detail).toMatch(/^init_images /)
    }
    expect((await post('img2img', SMALL)).body.detail).toMatch(/^init_images is missing/)
  })
})

describe('options', () => {
  test('come back as they were sent, up to a size', async () => {
    const options = await get('options')
    expect(options).toMatchObject({ sd_model_checkpoint: 'tiny', samples_format: 'png' })
    const { response, body } = await post('options', { ...options, CLIP_stop_at_last_layers: 2, own: { a: [1] } })
    expect([response.status, body]).toEqual([200, null])
    expect(await get('options')).toEqual({ ...options, CLIP_stop_at_last_layers: 2, own: { a: [1] } })
    const large = await post('options', { own: 'x'.repeat(70_000) })
    expect(large.response.status).toBe(413)
    expect(await get('options')).toMatchObject({ own: { a: [1] } })
  })

  test('a model that does not exist changes nothing', async () => {
    const { response } = await post('options', { sd_model_checkpoint: 'missing', own: 1 })
    expect(response.status).toBe(404)
    expect(await get('options')).toMatchObject({ sd_model_checkpoint: 'tiny', own: { a: [1] } })
  })
})

describe('while an image is made', () => {
  /** takes long enough to be stopped */
  const long = { prompt: PROMPT, width: 192, height: 192, seed: 5 }
  const progress = (client: string, query = '') => get(`progress${query}`, from(client))
  const stop = (how: string, client: string) => post(how, {}, from(client))
  const isDone = async () => {
    const { running, waiting } = (await (await fetch(`${server.url}/health`)).json()) as any
    return running + waiting === 0
  }

  test('nothing is made: 0, and a job count of 0', async () => {
    const idle = { progress: 0, eta_relative: 0, current_image: null, textinfo: null }
    expect(await progress('10.0.0.1')).toMatchObject({ ...idle, state: { job_count: 0, job: '', sampling_steps: 0 } })
    expect((await stop('interrupt', '10.0.0.1')).body).toEqual({})
    expect((await stop('skip', '10.0.0.1')).body).toBeNull()
  })

  test('progress from 0.01 to nearly 1, with steps and a preview', async () => {
    const answer = post('txt2img', { ...long, n_iter: 2 }, from('10.0.0.2'))
    const seen: any[] = []
    await until(async () => {
      const now = await progress('10.0.0.2')
      if (now.state.job_count > 0) seen.push(now)
      return now.state.job_count === 0 && seen.length > 0
    }, 'the end')
    expect((await answer).response.status).toBe(200)
    expect(seen[0]).toMatchObject({ progress: 0.01, current_image: null, state: { job_no: 0, sampling_step: 0 } })
    const values = seen.map((one) => one.progress)
    expect(values).toEqual(values.toSorted((a, b) => a - b))
    expect(values.at(-1)).toBeGreaterThan(0.8)
    const later = seen.findLast((one) => one.state.sampling_step > 0)
    expect(later.state).toMatchObject({
      ...{ job: 'scripts_txt2img', job_count: 2, job_no: 1, sampling_steps: 8, skipped: false, interrupted: false },
      job_timestamp: expect.stringMatching(/^20\d{12}$/),
    })
    expect(later.eta_relative).toBeGreaterThan(0)
    // one pixel for each of 8 x 8
    const preview = await readImage(Buffer.from(later.current_image, 'base64'))
    expect([preview.width, preview.height]).toEqual([24, 24])
  })

  test('skip_current_image leaves the preview out', async () => {
    const answer = post('txt2img', long, from('10.0.0.2'))
    await until(async () => (await progress('10.0.0.2')).current_image !== null, 'a preview')
    expect((await progress('10.0.0.2', '?skip_current_image=true')).current_image).toBeNull()
    await answer
  })

  test('interrupt: the answer has the images that are complete', async () => {
    const answer = post('txt2img', { ...long, n_iter: 3, subseed: 9, subseed_strength: 0.1 }, from('10.0.0.2'))
    await until(async () => (await progress('10.0.0.2')).state.job_no === 1, 'the second image')
    await stop('interrupt', '10.0.0.2')
    const stopped = await answer
    expect(stopped.images).toHaveLength(1)
    await expectDrawn(stopped, { ...long, variation: { seed: 9, strength: 0.1 } })
    expect(stopped.info).toMatchObject({ all_seeds: [5], all_subseeds: [9], width: 192 })
    expect(stopped.info.infotexts).toHaveLength(1)
    expect((await progress('10.0.0.2')).progress).toBe(0)
  })

  test('interrupt before the first is complete: the unfinished one, as large as requested', async () => {
    const answer = post('txt2img', { ...long, seed: -1 }, from('10.0.0.2'))
    await until(async () => (await progress('10.0.0.2')).current_image !== null, 'a preview')
    await stop('interrupt', '10.0.0.2')
    const { images, info, response } = await answer
    expect(response.status).toBe(200)
    const image = await readImage(images[0]!)
    expect([image.width, image.height, info.width, info.height]).toEqual([192, 192, 192, 192])
    expect(info.infotexts[0]).toMatch(new RegExp(`^${PROMPT}\nSteps: 8, .*Seed: ${info.seed}, Size: 192x192`))
  })

  test('interrupt of a job that waits: no image, but a valid answer', async () => {
    const other = post('txt2img', long, from('10.0.0.3'))
    await until(async () => (await progress('10.0.0.3')).state.job_count === 1, 'a job')
    const answer = post('txt2img', long, from('10.0.0.2'))
    await until(async () => (await progress('10.0.0.2')).progress === 0.01, 'a job that waits')
    await stop('interrupt', '10.0.0.2')
    const { images, info, response } = await answer
    expect([response.status, images.length, info.infotexts.length]).toEqual([200, 0, 1])
    expect((await other).images).toHaveLength(1)
  })

  test.each([
    [{}, { all_seeds: [5, 7], all_subseeds: [-1, -1] }, { seed: 7 }],
    [
      { subseed: 9, subseed_strength: 0.1 },
      { all_seeds: [5, 5], all_subseeds: [9, 11] },
      { variation: { seed: 11, strength: 0.1 } },
    ],
  ])('skip: the next image is made, with its own seed %j', async (body, seeds, options) => {
    const answer = post('txt2img', { ...long, n_iter: 3, ...body }, from('10.0.0.2'))
    await until(async () => (await progress('10.0.0.2')).state.job_no === 1, 'the second image')
    await stop('skip', '10.0.0.2')
    const skipped = await answer
    expect(skipped.info).toMatchObject(seeds)
    await expectDrawn(skipped, { ...long, ...options }, 1)
  })

  test('skip of the last image ends the request', async () => {
    const answer = post('txt2img', { ...long, n_iter: 2 }, from('10.0.0.2'))
    await until(async () => (await progress('10.0.0.2')).state.job_no === 1, 'the second image')
    await stop('skip', '10.0.0.2')
    expect((await answer).info.all_seeds).toEqual([5])
  })

  test('another client sees no progress, and stops nothing', async () => {
    const answer = post('txt2img', long, from('10.0.0.2'))
    await until(async () => (await progress('10.0.0.2')).current_image !== null, 'a preview')
    expect(await progress('10.0.0.3')).toMatchObject({ progress: 0, current_image: null })
    await stop('interrupt', '10.0.0.3')
    await expectDrawn(await answer, long)
  })

  test('a client that hangs up cancels its job', async () => {
    const controller = new AbortController()
    const answer = fetch(`${server.url}/sdapi/v1/txt2img`, {
      ...{ method: 'POST', body: JSON.stringify({ ...long, n_iter: 10 }), signal: controller.signal },
      headers: { 'content-type': 'application/json', ...from('10.0.0.2') },
    })
    await until(async () => (await progress('10.0.0.2')).current_image !== null, 'a preview')
    controller.abort()
    await expect(answer).rejects.toThrow('aborted')
    await until(isDone, 'the end of the job')
    expect((await progress('10.0.0.2')).progress).toBe(0)
  })

  test('a client that has gone before its request is a job cancels it as well', async () => {
    const queue = new SmallQueue()
    const { url } = await startServer({ queue })
    const ended: string[] = []
    queue.onEnd(({ state }) => ended.push(state))
    const { models } = queue
    let leave = () => {}
    const gone = new Promise<void>((resolve) => {
      leave = resolve
    })
    queue.models = async () => {
      await gone
      return models()
    }
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    const body = JSON.stringify({ ...long, width: 4096, height: 1024 })
    socket.write(
      `POST /sdapi/v1/txt2img HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    )
    await new Promise((resolve) => setTimeout(resolve, 100))
    socket.destroy()
    await new Promise((resolve) => setTimeout(resolve, 100))
    leave()
    await until(() => ended.length > 0, 'the end of the job')
    expect(ended).toEqual(['cancelled'])
  })

  test('too many at once are refused, to be tried again', async () => {
    const running = [post('txt2img', long, from('10.0.0.4')), post('txt2img', long, from('10.0.0.4'))]
    const counts = async () => (await (await fetch(`${server.url}/health`)).json()) as any
    await until(async () => (await counts()).running + (await counts()).waiting === 2, 'two jobs')
    const { response, body } = await post('txt2img', long, from('10.0.0.4'))
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '5'])
    expect(body.detail).toMatch(/^this client has 2 jobs/)
    await stop('interrupt', '10.0.0.4')
    await Promise.all(running)
  })
})

describe('lists', () => {
  test('in the form of A1111, without a path of this machine', async () => {
    const fields = async (route: string) => Object.keys((await get(route))[0]).sort()
    expect(await fields('sd-models')).toEqual(['config', 'filename', 'hash', 'model_name', 'sha256', 'title'])
    expect(await fields('samplers')).toEqual(['aliases', 'name', 'options'])
    expect(await fields('schedulers')).toEqual(['aliases', 'default_rho', 'label', 'name', 'need_inner_model'])
    expect(await fields('upscalers')).toEqual(['model_name', 'model_path', 'model_url', 'name', 'scale'])
    expect(await get('loras')).toEqual([{ name: 'style', alias: 'style', path: 'sub/style', metadata: {} }])
    expect((await get('upscalers')).map(({ name }: any) => name)).toEqual(['None', 'Lanczos', '4x-tiny'])
    expect(await get('latent-upscale-modes')).toEqual([{ name: 'Latent' }])
    for (const route of ['sd-models', 'loras', 'upscalers', 'options'])
      expect(JSON.stringify(await get(route))).not.toContain(folder)
  })

  test('memory, in bytes', async () => {
    const { ram, cuda } = await get('memory')
    expect(ram.total).toBe(ram.free + ram.used)
    expect(cuda).toEqual({ error: 'unavailable' })
  })

  test('refreshing has no effect', async () => {
    for (const route of ['refresh-checkpoints', 'refresh-loras', 'refresh-vae']) {
      const { response, body } = await post(route, {})
      expect([response.status, body]).toEqual([200, null])
    }
  })

  test('png-info', async () => {
    const image = await pipe.generate({ ...SMALL, seed: 77 })
    const pngInfo = (file: Buffer) => postJson(`${server.url}/sdapi/v1/png-info`, { image: file.toString('base64') })
    const { body } = await pngInfo(image)
    const { text } = (await readParameters(image))!
    expect(body).toMatchObject({
      ...{ info: text, items: { parameters: text } },
      parameters: { Prompt: PROMPT, Steps: '8', Seed: '77', 'Size-1': '64', 'Size-2': '64', Model: 'transformer' },
    })
    const plain = await encodeImage(new Uint8Array(64 * 64 * 3), 64, 64)
    expect((await pngInfo(plain)).body).toEqual({ info: '', items: {}, parameters: {} })
  })
})

describe('HTTP', () => {
  test('routes without a body take an empty one of type JSON; the others say what is missing', async () => {
    const { response, body } = await postJson(`${server.url}/sdapi/v1/interrupt`, '')
    expect([response.status, body]).toEqual([200, {}])
    const { response: empty } = await postJson(`${server.url}/sdapi/v1/txt2img`, '')
    expect(empty.status).toBe(400)
    const { response: broken } = await postJson(`${server.url}/sdapi/v1/txt2img`, '{')
    expect(broken.status).toBe(400)
  })

  test('HEAD, and a route that does not exist', async () => {
    expect((await fetch(`${server.url}/sdapi/v1/options`, { method: 'HEAD' })).status).toBe(200)
    const response = await fetch(`${server.url}/sdapi/v1/missing`)
    expect(response.status).toBe(404)
    expect(((await response.json()) as any).detail).toMatch(/^there is no GET \/sdapi\/v1\/missing/)
  })

  test('the routes are described', async () => {
    const { paths } = (await (await fetch(`${server.url}/openapi.json`)).json()) as any
    expect(Object.keys(paths)).toEqual(expect.arrayContaining(['/sdapi/v1/txt2img', '/sdapi/v1/png-info']))
  })
})
