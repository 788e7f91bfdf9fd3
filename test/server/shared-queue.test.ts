import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasRedis, startWorker, TestRedis, type TestWorker } from '../support/redis.js'
import { eventsOf, postJson, until } from '../support/server.js'
import { temporaryFolder } from '../support/temporary.js'
import { loadTiny } from '../support/tiny.js'

const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const SMALL = { prompt: 'a small red circle', width: 64, height: 64, steps: 2, seed: 7 }
const LONG = { ...SMALL, width: 256, height: 256, steps: 150 }

// Servers and workers as users start them, on one Redis.
describe.skipIf(!hasRedis)(`ggflux serve --redis${hasRedis ? '' : ' (there is no redis-server)'}`, () => {
  const folder = temporaryFolder()
  const images = join(folder, 'images')
  const ends: (() => unknown)[] = []
  let redis: TestRedis
  let worker: TestWorker
  let urls: string[]

  async function serve(): Promise<string> {
    const args = ['serve', '--port', '0', '--redis', redis.url, '--results', images]
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
    ends.push(() => {
      child.kill('SIGTERM')
      return once(child, 'exit')
    })
    let said = ''
    for await (const line of createInterface(child.stderr)) {
      said += line
      const [url] = /http:\/\/[\d.]+:\d+/.exec(line) ?? []
      if (url) return url
    }
    throw new Error(said)
  }

  beforeAll(async () => {
    redis = await TestRedis.start(folder)
    worker = await startWorker(redis.url, images, ['--lease', '1'])
    urls = await Promise.all([serve(), serve()])
  })
  afterAll(async () => {
    for (const end of ends) await end()
    await worker?.signal('SIGKILL')
    await redis?.stop()
  })

  const jobOf = async (url: string, id: string) => (await (await fetch(`${url}/v1/jobs/${id}`)).json()) as any

  test('an image by one server, made elsewhere, is the one that a pipeline makes', async () => {
    const openai = new OpenAI({ baseURL: `${urls[0]}/v1`, apiKey: 'none' })
    const { prompt, steps, seed, ...size } = SMALL
    const answer = await openai.images.generate({ prompt, size: '64x64', steps, seed } as never)
    await using pipe = await loadTiny({ backend: 'cpu', threads: 1 })
    const direct = await pipe.generate({ prompt, steps, seed, ...size })
    expect(Buffer.compare(Buffer.from(answer.data![0]!.b64_json!, 'base64'), direct)).toBe(0)
    expect(worker.log).toHaveLength(1)
  })

  test('a job that one server took is followed, shown and cancelled by the other', async () => {
    const { body } = await postJson(`${urls[0]}/v1/jobs`, { ...SMALL, previews: true })
    const events = []
    for await (const event of eventsOf(await fetch(`${urls[1]}/v1/jobs/${body.id}/events`))) events.push(event)
    expect(events.at(-1)!.event).toBe('completed')
    expect(events.some(({ data }) => data.preview)).toBe(true)
    const image = await fetch(`${urls[1]}/v1/jobs/${body.id}/images/0`)
    expect([image.status, image.headers.get('content-type')]).toEqual([200, 'image/png'])

    const { body: long } = await postJson(`${urls[0]}/v1/jobs`, LONG)
    await until(async () => (await jobOf(urls[1]!, long.id)).step > 0, 'the first step')
    await fetch(`${urls[1]}/v1/jobs/${long.id}`, { method: 'DELETE' })
    await until(async () => (await jobOf(urls[0]!, long.id)).state === 'cancelled', 'the cancellation')
  })

  test('models, health and metrics are those of the workers', async () => {
    const health = await (await fetch(`${urls[0]}/health`)).json()
    expect(health).toMatchObject({ status: 'ok', workers: 1, waiting: 0, running: 0 })
    const models = (await (await fetch(`${urls[0]}/v1/models`)).json()) as { data: { id: string; loaded: boolean }[] }
    expect(models.data).toMatchObject([{ id: 'tiny', loaded: true }])
    expect(await (await fetch(`${urls[0]}/metrics`)).text()).toMatch(
      /ggflux_jobs_total\{state="completed",model="tiny"\} [1-9]/,
    )
    const { response, body } = await postJson(`${urls[0]}/v1/jobs`, { ...SMALL, loras: [{ name: 'nothing' }] })
    expect([response.status, body.error.code]).toEqual([404, 'FLUX_NOT_FOUND'])
    const { body: wrong } = await postJson(`${urls[0]}/v1/images/generations`, { prompt: 'a', size: '65x64' })
    expect(wrong.error).toMatchObject({ code: 'FLUX_BAD_OPTION', param: 'width' })
  })

  test('a client that hangs up on a server cancels the job on the worker', async () => {
    const leave = new AbortController()
    const body = JSON.stringify({ prompt: 'a', size: '256x256', steps: 150 })
    const headers = { 'content-type': 'application/json' }
    const left = fetch(`${urls[0]}/v1/images/generations`, { method: 'POST', headers, body, signal: leave.signal })
    left.catch(() => {})
    const running = async () => ((await (await fetch(`${urls[1]}/health`)).json()) as { running: number }).running
    await until(async () => (await running()) === 1, 'the job')
    leave.abort()
    await until(async () => (await running()) === 0, 'its end')
  })

  test('kill -9 of the worker: another one makes the image, and the follower sees it', async () => {
    const { body } = await postJson(`${urls[0]}/v1/jobs`, { ...SMALL, width: 128, height: 128, steps: 40 })
    const followed = fetch(`${urls[1]}/v1/jobs/${body.id}/events`).then((response) => response.text())
    await until(async () => (await jobOf(urls[1]!, body.id)).step > 1, 'the second step')
    await worker.signal('SIGKILL')
    worker = await startWorker(redis.url, images, ['--lease', '1'])
    const text = await followed
    expect(text).toMatch(/event: completed/)
    expect(text.match(/event: started/g)).toHaveLength(2)
    const { images: made } = await jobOf(urls[0]!, body.id)
    expect(made).toHaveLength(1)
  })

  test('without a worker health says so, and a job waits for the next one', async () => {
    await worker.signal('SIGTERM')
    await until(async () => (await fetch(`${urls[0]}/health`)).status === 503, 'the worker that is gone')
    const { body } = await postJson(`${urls[0]}/v1/jobs`, SMALL)
    worker = await startWorker(redis.url, images, ['--lease', '1'])
    await until(async () => (await fetch(`${urls[0]}/health`)).status === 200, 'the new worker')
    await until(async () => (await jobOf(urls[1]!, body.id)).state === 'completed', 'the image')
  })

  test('a stopped server ends its streams, and the job goes on', async () => {
    const url = await serve()
    const end = ends.pop()!
    const { body } = await postJson(`${url}/v1/jobs`, { ...SMALL, width: 128, height: 128, steps: 20 })
    const followed = fetch(`${url}/v1/jobs/${body.id}/events`).then((response) => response.text())
    await until(async () => (await jobOf(url, body.id)).step > 0, 'the first step')
    expect(await end()).toEqual([0, null])
    expect(await followed).not.toMatch(/event: (completed|failed|cancelled)/)
    await until(async () => (await jobOf(urls[0]!, body.id)).state === 'completed', 'the image')
  })

  test.each<[string[], RegExp]>([
    [['--redis', 'redis://127.0.0.1:1', '--results', 'x'], /127\.0\.0\.1:1/],
    [['--redis', 'http://x', '--results', 'x'], /redis:\/\//],
    [['--redis', 'redis://127.0.0.1:1'], /--results is missing/],
    [['--redis', 'redis://127.0.0.1:1', '--results', 'x', '--models', 'y'], /to the workers/],
  ])('%j: one sentence', (args, message) => {
    const { status, stderr } = spawnSync(process.execPath, [program, 'serve', '--port', '0', ...args], {
      encoding: 'utf8',
    })
    expect([1, 2]).toContain(status)
    expect(stderr).toMatch(message)
    expect(stderr.trim().split('\n').length).toBeLessThan(3)
  })
})
