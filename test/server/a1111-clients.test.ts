import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI, { toFile } from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readImage } from '../../lib/images/read-image.js'
import { readParameters } from '../../lib/images/read-parameters.js'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { startServer, until, type TestServer } from '../support/server.js'
import { temporaryFolder } from '../support/temporary.js'
import { loadTiny, randomModel } from '../support/tiny.js'
import { SmallQueue, smaller } from './small-queue.js'

// What clients of local image servers send, and read of the answers: each written as its own code does it.

const KEY = 'a-long-secret'
const PROMPT = 'a small red circle'

let server: TestServer
let queue: SmallQueue
let pipe: FluxPipeline
beforeAll(async () => {
  const folder = temporaryFolder()
  mkdirSync(join(folder, 'dev'))
  await randomModel(join(folder, 'dev'))
  queue = new SmallQueue({ folder })
  server = await startServer({ queue, apiKey: KEY })
  pipe = await loadTiny()
})
afterAll(() => pipe?.close())

/** what a pipeline draws without the server, as RGB */
async function drawn(options: Pick<GenerateOptions, 'seed' | 'width' | 'height' | 'sampler' | 'scheduler'>) {
  return pipe.generate({ prompt: PROMPT, ...options, format: 'raw' })
}

const pixels = async (file: Buffer) => Buffer.from((await readImage(file)).data)
const basic = (login: string) => `Basic ${Buffer.from(login).toString('base64')}`
const jobs = async () => (await (await fetch(`${server.url}/health`)).json()) as { waiting: number; running: number }
const isIdle = async () => {
  const { waiting, running } = await jobs()
  return waiting + running === 0
}

/** open-webui/open-webui `backend/open_webui/routers/images.py` */
describe('Open WebUI', () => {
  interface Form {
    prompt: string
    model?: string
    size?: string
    n?: number
    steps?: number
    negative_prompt?: string
  }

  class Automatic1111 {
    readonly #url: string
    readonly #headers: { authorization: string }

    constructor(url: string, auth: string) {
      this.#url = url
      this.#headers = { authorization: auth }
    }

    async verify(): Promise<boolean> {
      return (await fetch(`${this.#url}/sdapi/v1/options`, { headers: this.#headers })).ok
    }

    async models(): Promise<{ id: string; name: string }[]> {
      const response = await fetch(`${this.#url}/sdapi/v1/sd-models`, { headers: this.#headers })
      return ((await response.json()) as any[]).map((model) => ({ id: model.title, name: model.model_name }))
    }

    async model(): Promise<string> {
      const response = await fetch(`${this.#url}/sdapi/v1/options`, { headers: this.#headers })
      return required((await response.json()) as any, 'sd_model_checkpoint')
    }

    async setModel(model: string): Promise<void> {
      const response = await fetch(`${this.#url}/sdapi/v1/options`, { headers: this.#headers })
      const options: any = await response.json()
      if (model === required(options, 'sd_model_checkpoint')) return
      options.sd_model_checkpoint = model
      const set = await this.#post('options', options)
      if (!set.ok) throw new Error(`${set.status}`)
    }

    /** neither status nor type of the content is looked at */
    async generate(form: Form, config: { steps?: number; params?: object } = {}) {
      await this.model()
      if (form.model) await this.setModel(form.model)
      const [width, height] = (form.size ?? '512x512').split('x').map(Number)
      const data = {
        ...{ prompt: form.prompt, batch_size: form.n ?? 1, width, height },
        ...(config.steps === undefined ? {} : { steps: form.steps ?? config.steps }),
        ...(form.negative_prompt === undefined ? {} : { negative_prompt: form.negative_prompt }),
        ...config.params,
      }
      const answer: any = await (await this.#post('txt2img', data)).json()
      const images = (required(answer, 'images') as string[]).map((image) =>
        Buffer.from(image.includes(',') ? image.split(',', 2)[1]! : image, 'base64'),
      )
      return { images, info: required(answer, 'info') as string }
    }

    #post(route: string, body: object): Promise<Response> {
      const headers = { ...this.#headers, 'content-type': 'application/json' }
      return fetch(`${this.#url}/sdapi/v1/${route}`, { method: 'POST', headers, body: JSON.stringify(body) })
    }
  }

  /** as Python's dict[key] */
  function required(object: Record<string, any>, key: string): any {
    if (!Object.hasOwn(object, key)) throw new Error(`KeyError: '${key}'`)
    return object[key]
  }

  test('automatic1111: verifies, lists models, and draws n images with its default steps', async () => {
    const client = new Automatic1111(server.url, basic(`user:${KEY}`))
    expect(await client.verify()).toBe(true)
    expect(await client.models()).toContainEqual({ id: 'tiny', name: 'tiny' })
    const { images, info } = await client.generate({ prompt: PROMPT, n: 2, negative_prompt: 'blue' }, { steps: 50 })
    expect(queue.last).toMatchObject({ model: 'tiny', options: { width: 512, height: 512, count: 2 } })
    const { all_seeds } = JSON.parse(info)
    expect(all_seeds[1]).toBe(all_seeds[0] + 1)
    const expected = await drawn({ seed: all_seeds[1], width: 64, height: 64 })
    expect(Buffer.compare(await pixels(images[1]!), expected)).toBe(0)
  })

  test('automatic1111: another model by sending all options back, for this and later requests', async () => {
    const client = new Automatic1111(server.url, basic(`user:${KEY}`))
    await client.generate({ prompt: PROMPT, model: 'dev', size: '64x64' }, { steps: 3 })
    expect(queue.last.model).toBe('dev')
    expect(await client.model()).toBe('dev')
    // dev has many steps, and takes those that are requested
    expect(queue.last.wishes).toMatchObject({ steps: 3 })
    await client.generate({ prompt: PROMPT, size: '64x64' }, { steps: 2 })
    expect(queue.last.model).toBe('dev')
    await client.setModel('tiny')
    expect(await client.model()).toBe('tiny')
  })

  test('automatic1111: parameters that the user adds', async () => {
    const client = new Automatic1111(server.url, basic(`user:${KEY}`))
    const params = { sampler_name: 'Heun', scheduler: 'Beta', seed: 7, CLIP_stop_at_last_layers: 2 }
    const { images, info } = await client.generate({ prompt: PROMPT }, { params })
    expect(JSON.parse(info)).toMatchObject({ seed: 7, sampler_name: 'Heun' })
    const expected = await drawn({ seed: 7, width: 64, height: 64, sampler: 'heun', scheduler: 'beta' })
    expect(Buffer.compare(await pixels(images[0]!), expected)).toBe(0)
  })

  test.each(['', 'Basic ', basic('user:wrong')])('automatic1111: the header "%s" is no key', async (header) => {
    expect(await new Automatic1111(server.url, header).verify()).toBe(false)
    await expect(new Automatic1111(server.url, header).model()).rejects.toThrow("KeyError: 'sd_model_checkpoint'")
  })

  describe('without a key', () => {
    let open: TestServer
    beforeAll(async () => {
      open = await startServer({ queue: new SmallQueue() })
    })

    test.each(['', 'Basic ', basic('user:anything')])('automatic1111: the header "%s" is accepted', async (header) => {
      expect(await new Automatic1111(open.url, header).verify()).toBe(true)
    })
  })

  test('automatic1111: an error has no images, and says what was wrong', async () => {
    const client = new Automatic1111(server.url, basic(`user:${KEY}`))
    await expect(client.generate({ prompt: PROMPT, n: 500 })).rejects.toThrow("KeyError: 'images'")
    await expect(client.setModel('missing')).rejects.toThrow('404')
  })

  /** the message of aiohttp's ClientResponseError is the reason phrase, and the user sees nothing else */
  async function openaiPost(
    route: string,
    body: string | FormData,
    headers: Record<string, string> = {},
  ): Promise<Buffer[]> {
    const response = await fetch(`${server.url}/v1/images/${route}`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${KEY}`, ...headers },
      body,
    })
    if (!response.ok) throw new Error(response.statusText)
    const { data } = (await response.json()) as any
    return data.map((image: any) => {
      if (image.url) throw new Error('an address of this machine, which it does not fetch')
      return Buffer.from(required(image, 'b64_json'), 'base64')
    })
  }
  const json = { 'Content-Type': 'application/json' }
  const generation = (body: object) => openaiPost('generations', JSON.stringify(body), json)

  test('openai: generations', async () => {
    const body = { model: 'dall-e-3', prompt: PROMPT, n: 2, size: '512x512', response_format: 'b64_json' }
    const [first, second] = await generation({ ...body, seed: 3 })
    expect(Buffer.compare(await pixels(second!), await drawn({ seed: 4, width: 64, height: 64 }))).toBe(0)
    expect(Buffer.compare(first!, second!)).not.toBe(0)
    // of gpt-image-1 neither size nor response_format is sent; 'auto' is its own size
    expect(await generation({ model: 'gpt-image-1', prompt: PROMPT, n: 1, size: 'auto', steps: 1 })).toHaveLength(1)
  })

  test('openai: edits of one image and of a list', async () => {
    const [image] = await generation({ model: 'tiny', prompt: PROMPT, size: '512x512', seed: 3 })
    for (const field of ['image', 'image[]']) {
      const form = new FormData()
      form.set('model', 'tiny')
      form.set('prompt', 'a large blue square')
      form.set('response_format', 'b64_json')
      form.append(field, new Blob([new Uint8Array(image!)], { type: 'image/png' }), 'a.png')
      const [edited] = await openaiPost('edits', form)
      const { width, height } = await readImage(edited!)
      expect([width, height], field).toEqual([64, 64])
    }
  })

  test.each([
    [{ prompt: PROMPT, size: '500x500' }, /^width is 500: give a multiple of 16 from 64 to 4096; 496 is nearest/],
    [{ prompt: PROMPT, model: 'flux-pro' }, /^there is no model 'flux-pro'; there are tiny/],
    [{ prompt: PROMPT, n: 50 }, /^count is 50: this server allows at most 10$/],
    [{ prompt: PROMPT, steps: 'many' }, /^steps must be integer$/],
  ])('openai: the reason phrase of an error is a sentence about %j', async (body, sentence) => {
    await expect(generation(body)).rejects.toThrow(sentence)
  })
})

/** SillyTavern/SillyTavern `src/endpoints/stable-diffusion.js`, `public/scripts/extensions/stable-diffusion/index.js` */
describe('SillyTavern', () => {
  const headers = { Authorization: basic(`user:${KEY}`) }
  const route = (path: string) => {
    const url = new URL(server.url)
    url.pathname = path
    return url
  }
  const get = async (path: string, withHeaders: Record<string, string> = headers): Promise<any> => {
    const result = await fetch(route(path), { method: 'GET', headers: withHeaders })
    if (!result.ok) throw new Error('SD WebUI returned an error.')
    return result.json()
  }
  const post = (path: string, body: object, signal?: AbortSignal) =>
    fetch(route(path), {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', ...headers },
      ...(signal ? { signal } : {}),
    })

  /** all that the browser sends; its server passes it on with address and login */
  const settings = () => ({
    ...{ url: server.url, auth: `user:${KEY}`, prompt: PROMPT, negative_prompt: 'lowres, bad anatomy' },
    ...{ sampler_name: 'DPM++ 2M Karras', scheduler: 'normal', steps: 20, cfg_scale: 7, width: 512, height: 512 },
    ...{ restore_faces: false, enable_hr: false, hr_upscaler: 'Latent', hr_scale: 2, denoising_strength: 0.7 },
    hr_second_pass_steps: 0,
    hr_additional_modules: [],
    override_settings: { CLIP_stop_at_last_layers: 1, forge_additional_modules: undefined },
    override_settings_restore_afterwards: true,
    ...{ clip_skip: 1, save_images: true, send_images: true, do_not_save_grid: false, do_not_save_samples: false },
    alwayson_scripts: { ADetailer: { args: [true, true, { ad_model: 'face_yolov8n.pt' }] } },
  })

  test('auto: what it can choose from', async () => {
    expect((await fetch(route('/sdapi/v1/options'), { method: 'GET', headers })).ok).toBe(true)
    const [upscalers, latent] = await Promise.all([
      get('/sdapi/v1/upscalers').then((data) => data.map((x: any) => x.name)),
      get('/sdapi/v1/latent-upscale-modes').then((data) => data.map((x: any) => x.name)),
    ])
    upscalers.splice(1, 0, ...latent)
    expect(upscalers).toEqual(['None', 'Latent', 'Lanczos'])
    const results = await Promise.allSettled(['/sdapi/v1/sd-vae', '/sdapi/v1/sd-modules'].map((path) => get(path)))
    const vaes = results.find((result) => result.status === 'fulfilled')?.value
    expect(vaes.map((x: any) => x.model_name)).toEqual([])
    expect((await get('/sdapi/v1/samplers')).map((x: any) => x.name)).toContain('DPM++ 2M')
    expect((await get('/sdapi/v1/schedulers')).map((x: any) => x.name)).toContain('karras')
    expect((await get('/sdapi/v1/sd-models')).map((x: any) => ({ value: x.title, text: x.title }))).toContainEqual({
      value: 'tiny',
      text: 'tiny',
    })
    expect((await get('/sdapi/v1/options')).sd_model_checkpoint).toBe('tiny')
  })

  test('auto: sets a model and waits until nothing happens', async () => {
    expect((await post('/sdapi/v1/options', { sd_model_checkpoint: 'tiny' })).ok).toBe(true)
    let isReady = false
    for (let attempt = 0; attempt < 10 && !isReady; attempt++) {
      const state = await get('/sdapi/v1/progress')
      isReady = state.progress === 0.0 && state.state.job_count === 0
      if (!isReady) await new Promise((resolve) => setTimeout(resolve, 50))
    }
    expect(isReady).toBe(true)
  })

  test('auto: draws an image', async () => {
    const body = settings()
    // to any other than Forge
    expect('forge_preset' in (await get('/sdapi/v1/options'))).toBe(false)
    const result = await post('/sdapi/v1/txt2img', body)
    expect(result.ok, await result.clone().text()).toBe(true)
    const data: any = await result.json()
    const { seed } = JSON.parse(data.info)
    const expected = await drawn({ seed, width: 64, height: 64, sampler: 'dpmpp_2m', scheduler: 'normal' })
    expect(Buffer.compare(await pixels(Buffer.from(data.images[0], 'base64')), expected)).toBe(0)
    expect(JSON.stringify(data.parameters)).not.toContain(KEY)
  })

  test('auto: an image that is enlarged', async () => {
    const result = await post('/sdapi/v1/txt2img', { ...settings(), enable_hr: true, hr_scale: 1.5 })
    const data: any = await result.json()
    const { width, height } = await readImage(Buffer.from(data.images[0], 'base64'))
    expect([width, height]).toEqual([96, 96])
    expect(queue.last.options.hires).toEqual({ scale: 1.5, strength: 0.7, upscale: 'latent' })
  })

  test('auto: a browser that hangs up interrupts the job', async () => {
    const controller = new AbortController()
    const size = { width: 4096, height: 1024 }
    const result = post('/sdapi/v1/txt2img', { ...settings(), ...size }, controller.signal).catch(() => 'aborted')
    await until(async () => (await get('/sdapi/v1/progress')).state.job_count === 1, 'a job')
    const interrupt = fetch(route('/sdapi/v1/interrupt'), { method: 'POST', headers })
    controller.abort()
    expect((await interrupt).ok).toBe(true)
    expect(await result).toBe('aborted')
    await until(isIdle, 'the end of the job')
    expect(await get('/sdapi/v1/progress')).toMatchObject({ progress: 0, state: { job_count: 0 } })
  })

  test('auto: any error is an answer that is not ok', async () => {
    expect((await post('/sdapi/v1/txt2img', { ...settings(), width: 'wide' })).ok).toBe(false)
    await expect(get('/sdapi/v1/options', {})).rejects.toThrow('SD WebUI returned an error.')
  })

  describe('stable-diffusion.cpp, which knows no login', () => {
    let open: TestServer
    let openQueue: SmallQueue
    beforeAll(async () => {
      openQueue = new SmallQueue()
      open = await startServer({ queue: openQueue })
    })

    test('pings, lists models and draws', async () => {
      const url = new URL(open.url)
      url.pathname = '/v1/images/generations'
      expect((await fetch(url, { method: 'OPTIONS' })).ok).toBe(true)
      url.pathname = '/v1/models'
      const models: any = await (await fetch(url)).json()
      const request: Record<string, unknown> = {
        ...{ model: models.data[0].id, prompt: PROMPT, negative_prompt: '', width: 512, height: 768, steps: 20 },
        ...{ cfg_scale: 7, seed: 11, batch_size: 1, sampler_name: 'euler_a', scheduler: 'discrete' },
        clip_skip: undefined,
      }
      for (const [key, value] of Object.entries(request))
        if (value === undefined || value === null || value === '') delete request[key]
      url.pathname = '/sdapi/v1/txt2img'
      const result = await fetch(url, {
        method: 'POST',
        body: JSON.stringify(request),
        headers: { 'Content-Type': 'application/json' },
      })
      const data: any = await result.json()
      expect(openQueue.last.options).toMatchObject({ width: 512, height: 768, sampler: 'euler_ancestral' })
      const expected = await drawn({ seed: 11, width: 64, height: smaller(768), sampler: 'euler_ancestral' })
      expect(Buffer.compare(await pixels(Buffer.from(data.images[0], 'base64')), expected)).toBe(0)
      expect(result.headers.get('x-ggflux-warning')).toContain('there is no scheduler discrete')
    })
  })
})

/** danny-avila/LibreChat `api/app/clients/tools/structured/StableDiffusion.js`, `OpenAIImageTools.js` */
describe('LibreChat', () => {
  test("the A1111 tool reads the first image and the first of info's texts", async () => {
    const open = await startServer({ queue: new SmallQueue() })
    const payload = { prompt: PROMPT, negative_prompt: 'blurry', cfg_scale: 4.5, steps: 22, width: 1024, height: 1024 }
    const response = await fetch(`${open.url}/sdapi/v1/txt2img`, {
      method: 'POST',
      headers: { Accept: 'application/json, text/plain, */*', 'Content-Type': 'application/json' },
      body: JSON.stringify(payload),
    })
    const data: any = await response.json()
    const image: string = data.images[0]
    const info = JSON.parse(data.info)
    const buffer = Buffer.from(image.split(',', 1)[0]!, 'base64')
    const metadata = { height: info.height, width: info.width, bytes: Buffer.byteLength(buffer) }
    expect(metadata).toEqual({ height: 128, width: 128, bytes: buffer.length })
    expect(info.infotexts[0].split('\n').pop()).toMatch(/^Steps: 8, Sampler: Euler, .*Seed: \d+, Size: 128x128, /)
    expect((await readParameters(buffer))!.text).toBe(info.infotexts[0])
    const expected = await drawn({ seed: info.seed, width: 128, height: 128 })
    expect(Buffer.compare(await pixels(buffer), expected)).toBe(0)
  })

  test('the OpenAI tool generates and edits', async () => {
    const openai = new OpenAI({ apiKey: KEY, baseURL: `${server.url}/v1` })
    const generated = await openai.images.generate({
      ...{ model: 'gpt-image-1', prompt: PROMPT, n: 1, background: 'auto', output_format: 'png' },
      ...{ output_compression: 100, quality: 'auto', size: 'auto' },
    })
    const image = Buffer.from(generated.data![0]!.b64_json!, 'base64')
    expect((await readImage(image)).width).toBe(128)
    const form = new FormData()
    for (const [name, value] of Object.entries({ model: 'gpt-image-1', prompt: 'a blue square', quality: 'auto' }))
      form.append(name, value)
    form.append('size', 'auto')
    form.append('image[]', await toFile(image, 'image.png', { type: 'image/png' }))
    const response = await fetch(`${server.url}/v1/images/edits`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${KEY}` },
      body: form,
    })
    const edited: any = await response.json()
    expect((await readImage(Buffer.from(edited.data[0].b64_json, 'base64'))).width).toBe(128)
  })
})
