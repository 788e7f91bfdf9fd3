import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { encodeImage } from '../../lib/images/encode.js'
import { createServer } from '../../lib/server/index.js'
import { postJson, startServer, type TestServer } from '../support/server.js'
import { temporaryFolder } from '../support/temporary.js'

const folder = temporaryFolder()
const KEY = 'a-secret-key'
let server: TestServer
let guarded: TestServer
let png: Buffer
beforeAll(async () => {
  mkdirSync(join(folder, 'models', 'loras'), { recursive: true })
  writeFileSync(join(folder, 'secret.safetensors'), 'secret')
  server = await startServer({
    models: join(folder, 'models'),
    limits: { body: 2 ** 21, prompt: 1000, inputPixels: 2 ** 22 },
  })
  guarded = await startServer({ host: '127.0.0.1', apiKey: KEY })
  png = await encodeImage(new Uint8Array(64 * 64 * 3), 64, 64)
})

// whatever came, the server still draws
afterEach(async () => {
  const { response } = await postJson(`${server.url}/v1/images/generations`, {
    prompt: 'a circle',
    size: '64x64',
    steps: 1,
  })
  expect(response.status).toBe(200)
})

const draw = (body: unknown, headers = {}) => postJson(`${server.url}/v1/images/generations`, body, headers)
const job = (body: unknown) => postJson(`${server.url}/v1/jobs`, body)
const small = { prompt: 'a circle', size: '64x64', steps: 1 }

describe('JSON', () => {
  test.each<[string, string, number, RegExp]>([
    ['cut off', '{"prompt": "a', 400, /JSON|Unexpected|Unterminated/],
    ['empty', '', 400, /object/],
    ['a list', '[]', 400, /object/],
    ['a number', '5', 400, /object/],
    ['null', 'null', 400, /object/],
    ['with a prototype', '{"prompt": "a", "__proto__": {"admin": true}}', 400, /JSON/],
    ['infinite', '{"prompt": "a", "guidance": 1e999}', 400, /guidance/],
    ['nested 20,000 deep', `{"prompt": ${'['.repeat(20_000)}${']'.repeat(20_000)}}`, 400, /prompt/],
  ])('that is %s', async (_, text, status, message) => {
    const { response, body } = await draw(text)
    expect(response.status).toBe(status)
    expect(body.error.message).toMatch(message)
    expect(body.error).toMatchObject({ type: 'invalid_request_error' })
  })

  test.each<[string, object, RegExp]>([
    ['no prompt', {}, /prompt/],
    ['a list as prompt', { prompt: ['a'] }, /prompt/],
    ['steps in words', { steps: 'many' }, /steps/],
    ['NaN in words', { guidance: 'NaN' }, /guidance/],
    ['0 steps', { steps: 0 }, /steps/],
    ['half a step', { steps: 1.5 }, /steps/],
    ['too many steps', { steps: 999 }, /steps is 999: this server allows at most 150/],
    ['a huge n', { n: 1e9 }, /n must be <= 64/],
    ['more images than allowed', { n: 11 }, /count is 11: this server allows at most 10/],
    ['a negative seed', { seed: -1 }, /seed/],
    ['a seed beyond 2^53', { seed: 2 ** 60 }, /seed/],
    ['no such sampler', { sampler: 'magic' }, /sampler/],
    ['a size of words', { size: 'large' }, /size is 'large'/],
    ['no multiple of 16', { size: '65x64' }, /width is 65/],
    ['a size of 0', { size: '0x0' }, /width is 0/],
    ['more pixels than allowed', { size: '4096x4096' }, /16777216 pixels/],
    ['too long a prompt', { prompt: 'a'.repeat(1001) }, /prompt is 1001 characters/],
    ['a format that is none', { output_format: 'gif' }, /output_format is 'gif'/],
    ['partial_images above 3', { partial_images: 4 }, /partial_images/],
    ['LoRAs that are no list', { loras: 'style' }, /loras/],
    ['a LoRA without a name', { loras: [{ scale: 1 }] }, /name/],
    ['a negative prompt without CFG', { negative_prompt: 'x' }, /negative_prompt has no effect while true_cfg is 1/],
  ])('with %s', async (_, fields, message) => {
    const given = 'prompt' in fields || Object.keys(fields).length === 0 ? fields : { ...small, ...fields }
    const { response, body } = await draw(given)
    expect(response.status).toBe(400)
    expect(body.error.message).toMatch(message)
    expect(response.statusText.slice(0, 100)).toBe(body.error.message.slice(0, 100))
  })

  test('larger than the limit', async () => {
    const { response } = await draw({ ...small, user: 'x'.repeat(2 ** 21) })
    expect(response.status).toBe(413)
  })

  test('of another kind', async () => {
    const { response } = await draw('prompt=a', { 'content-type': 'text/plain' })
    expect(response.status).toBe(415)
  })
})

test.each<[string, object, RegExp]>([
  ['one large side', { width: 4096, height: 1040 }, /4259840 pixels/],
  ['a second pass from the default size', { hires: { scale: 20 } }, /6553600 pixels/],
  ['a large second pass', { width: 64, height: 64, hires: { width: 4096, height: 4096 } }, /16777216 pixels/],
  ['steps of the second pass', { width: 64, height: 64, hires: { scale: 2, steps: 200 } }, /steps is 200/],
  ['noise levels of its own', { sigmas: Array.from({ length: 400 }, (_, i) => 1 - i / 400) }, /steps is 400/],
  ['many LoRAs', { loras: Array.from({ length: 17 }, () => ({ name: 'a' })) }, /loras is 17/],
])('more than allowed by %s', async (_, fields, message) => {
  const { response, body } = await job({ prompt: 'a', ...fields })
  expect(body.error?.message).toMatch(message)
  expect(response.status).toBe(400)
})

test('more than allowed by added sides, or by the image itself', async () => {
  const strict = await startServer({ limits: { pixels: 128 * 128 } })
  const image = png.toString('base64')
  const ask = async (fields: object) =>
    (await postJson(`${strict.url}/v1/jobs`, { prompt: 'a', image, ...fields })).response.status
  expect(await ask({ steps: 1 })).toBe(202)
  expect(await ask({ extend: { left: 1024, top: 960 } })).toBe(400)
  expect(await ask({ width: 256 })).toBe(400)
  const large = (await encodeImage(new Uint8Array(256 * 256 * 3), 256, 256)).toString('base64')
  expect(await ask({ image: large })).toBe(400)
})

describe('names', () => {
  test.each([
    '../secret',
    '..%2fsecret',
    '/etc/passwd',
    'hf:owner/name',
    'C:\\x',
    '\u0000',
    '__proto__',
    'constructor',
  ])('a model named %j is none', async (model) => {
    const { response, body } = await draw({ ...small, model })
    expect(response.status).toBe(404)
    expect(body.error).toMatchObject({ code: 'model_not_found', param: 'model' })
  })

  test.each([
    '../../secret',
    '../../secret.safetensors',
    join(folder, 'secret.safetensors'),
    'hf:owner/name:x',
    '__proto__',
  ])('a LoRA named %j is none', async (name) => {
    const { response, body } = await draw({ ...small, loras: [{ name }] })
    expect(response.status).toBe(404)
    expect(body.error.message).toMatch(/^there is no lora named/)
    expect(body.error.message).not.toContain('secret file')
  })

  test('ControlNets, IP-Adapters and upscalers are names as well', async () => {
    const image = png.toString('base64')
    const wrong = [
      { control_nets: [{ name: '/etc/passwd', image }] },
      { ip_adapters: [{ name: '/etc/passwd', image }] },
      { hires: { upscale: 'image', upscaler: '/etc/passwd' } },
    ]
    for (const fields of wrong) {
      const { response, body } = await job({ prompt: 'a', width: 64, height: 64, ...fields })
      expect([response.status, body.error.code]).toEqual([404, 'FLUX_NOT_FOUND'])
    }
  })

  test.each(['../../health', 'x', '__proto__', 'a'.repeat(99)])('a job named %j is none', async (id) => {
    const response = await fetch(`${server.url}/v1/jobs/${encodeURIComponent(id)}`)
    expect(response.status).toBe(404)
  })
})

describe('images', () => {
  const edit = (fields: Record<string, string | Blob>) => {
    const form = new FormData()
    for (const [name, value] of Object.entries({ prompt: 'a circle', steps: '1', ...fields })) form.append(name, value)
    return fetch(`${server.url}/v1/images/edits`, { method: 'POST', body: form }).then(async (response) => ({
      response,
      body: (await response.json()) as any,
    }))
  }
  const file = (bytes: Uint8Array) => new Blob([new Uint8Array(bytes)], { type: 'image/png' })

  /** a PNG of a header and nothing else */
  function header(width: number, height: number): Buffer {
    const chunk = (type: string, data: Buffer) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(data.length)
      return Buffer.concat([length, Buffer.from(type), data, Buffer.alloc(4)])
    }
    const ihdr = Buffer.alloc(13)
    ihdr.writeUInt32BE(width, 0)
    ihdr.writeUInt32BE(height, 4)
    ihdr.set([8, 2, 0, 0, 0], 8)
    const idat = deflateSync(Buffer.alloc(1000))
    return Buffer.concat([
      Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
      chunk('IHDR', ihdr),
      chunk('IDAT', idat),
      chunk('IEND', Buffer.alloc(0)),
    ])
  }

  test.each<[string, () => Record<string, string | Blob>, number, RegExp]>([
    ['none', () => ({}), 400, /image is missing/],
    ['a text', () => ({ image: file(Buffer.from('<svg/>')) }), 400, /no image|not an image/],
    ['cut off', () => ({ image: file(png.subarray(0, 60)) }), 400, /image/],
    ['of too many pixels, in a small file', () => ({ image: file(header(60_000, 60_000)) }), 400, /60000 x 60000/],
    ['that lies about its size', () => ({ image: file(header(1000, 1000)) }), 400, /image/],
    ['a mask of another size', () => ({ image: file(png), mask: file(header(32, 32)) }), 400, /mask/],
    ['an address', () => ({ image: 'http://127.0.0.1:1/x.png' }), 400, /fetches none/],
    ['a file address', () => ({ image: 'file:///etc/passwd' }), 400, /fetches none/],
    ['no base64', () => ({ image: 'data:image/png;base64,###' }), 400, /base64/],
    ['too large a file', () => ({ image: file(Buffer.alloc(2 ** 21 + 1)) }), 413, /large/],
  ])('that is %s', async (_, fields, status, message) => {
    const { response, body } = await edit(fields())
    expect(body.error?.message).toMatch(message)
    expect(response.status).toBe(status)
  })

  test('a path is no image: nothing on this machine is read', async () => {
    writeFileSync(join(folder, 'photo.png'), png)
    const { response, body } = await job({ prompt: 'a', image: join(folder, 'photo.png'), width: 64, height: 64 })
    expect(response.status).toBe(400)
    expect(body.error.message).toMatch(/^image is no base64/)
  })

  test('a small file of very many parts does not hold up the server', async () => {
    const empty = Buffer.concat([Buffer.alloc(4), Buffer.from('teXt'), Buffer.alloc(4)])
    const many = Buffer.concat([png.subarray(0, 33), ...Array.from({ length: 150_000 }, () => empty), png.subarray(33)])
    const { response, body } = await edit({ image: file(many) })
    expect(response.status).toBe(400)
    expect(body.error.message).toMatch(/more than 100000 chunks/)
  })

  test('DELETE with the type of JSON and no body', async () => {
    const headers = { 'content-type': 'application/json' }
    expect((await fetch(`${server.url}/v1/jobs/x`, { method: 'DELETE', headers })).status).toBe(404)
  })

  test('a form that ends too early', async () => {
    const headers = { 'content-type': 'multipart/form-data; boundary=x' }
    const cut = '--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na'
    const response = await fetch(`${server.url}/v1/images/edits`, { method: 'POST', headers, body: cut })
    expect(response.status).toBe(400)
  })

  test('a form with an image for a job: empty fields are none, a prompt is text, unknown files are named', async () => {
    const form = new FormData()
    const fields = {
      prompt: '["red"]',
      steps: '1',
      seed: '',
      n: '',
      width: '64',
      height: '64',
      image: file(png),
      other: file(png),
    }
    for (const [name, value] of Object.entries(fields)) form.append(name, value)
    const response = await fetch(`${server.url}/v1/jobs`, { method: 'POST', body: form })
    expect(response.status).toBe(202)
    expect(response.headers.get('x-ggflux-warning')).toBe('ignored: other')
    const { id } = (await response.json()) as { id: string }
    const events = await (await fetch(`${server.url}/v1/jobs/${id}/events`)).text()
    expect(events).toMatch(/"stage":"encode"/) // the image was read
    expect(events).toMatch(/"parameters":"\[\\"red\\"\]/)
  })

  test('a part without a name', async () => {
    const headers = { 'content-type': 'multipart/form-data; boundary=x' }
    const body = '--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n'
    const response = await fetch(`${server.url}/v1/images/edits`, { method: 'POST', headers, body })
    expect(response.status).toBe(400)
    expect(await response.text()).toMatch(/has no name/)
  })

  test('a form of too many fields', async () => {
    const form = new FormData()
    for (let i = 0; i < 500; i++) form.append(`field${i}`, 'x')
    const response = await fetch(`${server.url}/v1/images/edits`, { method: 'POST', body: form })
    expect(response.status).toBe(413)
  })
})

describe('connections', () => {
  async function open(text: string): Promise<Socket> {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
    await once(socket, 'connect')
    socket.on('error', () => {}) // the server may end it first
    socket.write(text)
    return socket
  }
  const answerOf = async (socket: Socket) => String((await once(socket, 'data'))[0])

  test('oversized headers', async () => {
    const socket = await open(`GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`)
    expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 431/)
    socket.destroy()
  })

  test('what is no HTTP', async () => {
    const socket = await open('hello\r\n\r\n')
    expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 400/)
    socket.destroy()
  })

  test('headers that never end are cut off', { timeout: 40_000 }, async () => {
    const socket = await open('GET / HTTP/1.1\r\nHost: localhost\r\n')
    const drip = setInterval(() => socket.write('X-A: b\r\n'), 1000)
    const began = Date.now()
    await new Promise((resolve) => socket.on('close', resolve))
    clearInterval(drip)
    expect(Date.now() - began).toBeLessThan(30_000)
    socket.destroy()
  })

  test('two hundred idle ones', async () => {
    const sockets = await Promise.all(Array.from({ length: 200 }, () => open('')))
    expect((await fetch(`${server.url}/health`)).status).toBe(200)
    for (const socket of sockets) socket.destroy()
  })
})

describe('access', () => {
  const raw = async (url: string, headers: Record<string, string>, method = 'GET') => {
    const { hostname, port, pathname } = new URL(url)
    const socket = connect(Number(port), hostname)
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
    socket.write(`${method} ${pathname} HTTP/1.1\r\n${lines.join('')}Connection: close\r\nContent-Length: 0\r\n\r\n`)
    const [data] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    return Number(/^HTTP\/1\.1 (\d+)/.exec(String(data))![1])
  }

  test.each([
    ['localhost', 200],
    ['127.0.0.1:7860', 200],
    ['192.168.1.5', 200],
    ['[::1]:7860', 200],
    ['evil.example', 403],
    ['localhost.evil.example', 403],
    ['', 403],
  ])('the host %j: %d', async (host, status) => {
    expect(await raw(`${server.url}/v1/models`, { Host: host })).toBe(status)
  })

  test.each([
    ['http://evil.example', 403],
    ['null', 403],
    ['http://localhost', 400], // passes, and lacks a body
  ])('a page at %j posts: %d', async (origin, status) => {
    expect(await raw(`${server.url}/v1/jobs`, { Host: 'localhost', Origin: origin }, 'POST')).toBe(status)
  })

  test.each([
    ['none', {}, 401],
    ['a wrong one', { authorization: 'Bearer a-secret-kez' }, 401],
    ['a longer one', { authorization: `Bearer ${KEY}x` }, 401],
    ['the right one', { authorization: `Bearer ${KEY}` }, 200],
    ['the right one as a password', { authorization: `Basic ${Buffer.from(`user:${KEY}`).toString('base64')}` }, 200],
    ['an empty password', { authorization: 'Basic ' }, 401],
  ])('a key: %s', async (_, headers, status) => {
    for (const path of ['/v1/models', '/v1/capabilities', '/metrics', '/v1/jobs/x'])
      expect((await fetch(guarded.url + path, { headers })).status).toBe(
        path.endsWith('x') && status === 200 ? 404 : status,
      )
  })

  test('health, the page and OPTIONS need no key', async () => {
    expect((await fetch(`${guarded.url}/health`)).status).toBe(200)
    for (const path of ['/v1/images/generations', '/sdapi/v1/txt2img', '/', '/nothing'])
      expect((await fetch(guarded.url + path, { method: 'OPTIONS' })).status).toBe(204)
  })

  test('an address that others can reach needs a key, or a clear no', async () => {
    await expect(createServer({ host: '0.0.0.0' })).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await expect(createServer({ host: '0.0.0.0', apiKey: 'short' })).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    const open = await createServer({ host: '0.0.0.0', auth: false, port: 0, logLevel: 'silent' })
    await open.close()
  })

  test.each<[string, object]>([
    ['origins in one text', { cors: 'https://app.example' }],
    ['no origin', { cors: ['app.example'] }],
    ['an origin with a path', { cors: ['https://app.example/x'] }],
    ['no time', { patience: Number.NaN }],
    ['a time that no timer takes', { patience: Number.POSITIVE_INFINITY }],
    ['a negative time', { keepJobs: -1 }],
    ['a time in words', { keepAlive: 'long' }],
    ['proxies that are counted wrong', { trustProxy: -1 }],
    ['a limit of 0', { limits: { count: 0 } }],
    ['an unknown option', { prot: 1 }],
  ])('createServer refuses %s', async (_, options) => {
    await expect(createServer(options as never)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })

  test('a folder for results that cannot be written is refused at once', async () => {
    writeFileSync(join(folder, 'a-file'), '')
    await expect(createServer({ results: join(folder, 'a-file') })).rejects.toMatchObject({ code: 'FLUX_BAD_FILE' })
  })

  test('behind a proxy a client is the address that the proxy saw, whatever the client writes', async () => {
    const proxied = await startServer({ trustProxy: 1, limits: { perClient: 1 } })
    const ask = (forwarded: string) =>
      postJson(
        `${proxied.url}/v1/jobs`,
        { prompt: 'a', width: 256, height: 256, steps: 100 },
        { 'x-forwarded-for': forwarded },
      )
    const first = await ask('10.0.0.1, 203.0.113.9')
    expect(first.response.status).toBe(202)
    expect((await ask('10.0.0.2, 203.0.113.9')).response.status).toBe(429)
    const other = await ask('10.0.0.1, 203.0.113.10')
    expect(other.response.status).toBe(202)
    for (const { body } of [first, other]) await fetch(`${proxied.url}/v1/jobs/${body.id}`, { method: 'DELETE' })
  })

  test('CORS is off, and on for the origins that are named', async () => {
    const headers = { origin: 'https://app.example', 'access-control-request-method': 'DELETE' }
    const off = await fetch(`${server.url}/v1/jobs/x`, { method: 'OPTIONS', headers })
    expect(off.headers.get('access-control-allow-origin')).toBeNull()
    const named = await startServer({ cors: ['https://app.example'] })
    const on = await fetch(`${named.url}/v1/jobs/x`, { method: 'OPTIONS', headers })
    expect(on.headers.get('access-control-allow-origin')).toBe('https://app.example')
    expect(on.headers.get('access-control-allow-methods')).toContain('DELETE')
    const other = await fetch(`${named.url}/v1/models`, { headers: { origin: 'https://evil.example' } })
    expect(other.headers.get('access-control-allow-origin')).not.toBe('https://evil.example')
    const body = JSON.stringify({ prompt: 'a', width: 64, height: 64, steps: 1 })
    const posted = {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', origin: 'https://app.example' },
    }
    expect((await fetch(`${named.url}/v1/jobs`, posted)).status).toBe(202)
    expect((await fetch(`${named.url}/health`, { method: 'OPTIONS' })).status).toBe(204)
  })
})
