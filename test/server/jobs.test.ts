import { spawnSync } from 'node:child_process'
import { beforeAll, describe, expect, test } from 'vitest'
import { readParameters } from '../../lib/images/read-parameters.js'
import { readImage } from '../../lib/images/read-image.js'
import { eventsOf, postJson, startServer, until, type TestServer } from '../support/server.js'
import { loadTiny } from '../support/tiny.js'

const SMALL = { prompt: 'a small red circle', width: 64, height: 64, steps: 2, seed: 7 }
const LONG = { ...SMALL, width: 512, height: 512, steps: 150 }

let server: TestServer
beforeAll(async () => {
  server = await startServer({ limits: { perClient: 6, waiting: 4 } })
})

const get = async (path: string) => (await fetch(server.url + path)).json() as Promise<any>
const post = (body: object, headers: Record<string, string> = {}) => postJson(`${server.url}/v1/jobs`, body, headers)
const cancel = async (id: string) =>
  (await fetch(`${server.url}/v1/jobs/${id}`, { method: 'DELETE' })).json() as Promise<any>
const stateOf = async (id: string): Promise<string> => (await get(`/v1/jobs/${id}`)).state
const follow = async (id: string, headers: Record<string, string> = {}) => {
  const events = []
  const response = await fetch(`${server.url}/v1/jobs/${id}/events`, { headers })
  expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
  for await (const event of eventsOf(response)) events.push(event)
  return events
}

describe('a job', () => {
  test('from the request to the image, with previews', async () => {
    const { response, body } = await post({ ...SMALL, count: 2, steps: 4, previews: { every: 2 } })
    expect(response.status).toBe(202)
    expect(response.headers.get('location')).toBe(`/v1/jobs/${body.id}`)
    expect(body).toMatchObject({ object: 'job', model: 'tiny', count: 2, error: null })
    const events = await follow(body.id)
    expect(events.map(({ id }) => Number(id))).toEqual(events.map((_, i) => i + 1))
    const steps = events.filter(({ event }) => event === 'step').map(({ data }) => data)
    expect(steps.map(({ index, step, steps }) => [index, step, steps])).toEqual(
      [0, 1].flatMap((index) => [1, 2, 3, 4].map((step) => [index, step, 4])),
    )
    expect(steps.map(({ preview }) => preview !== undefined)).toEqual([
      false,
      true,
      false,
      true,
      false,
      true,
      false,
      true,
    ])
    const { preview } = steps[1]
    expect(await readImage(Buffer.from(preview.data, 'base64'))).toMatchObject({
      width: preview.width,
      height: preview.height,
    })
    expect(steps.every(({ seconds_left }) => seconds_left === null || seconds_left >= 0)).toBe(true)
    expect(events.at(-1)).toMatchObject({ event: 'completed' })

    const job = await get(`/v1/jobs/${body.id}`)
    expect(job).toMatchObject({ state: 'completed', progress: 1, stage: null, position: 0 })
    await using pipe = await loadTiny({ backend: 'cpu' })
    const { prompt, width, height } = SMALL
    for (const [i, { url, seed, parameters }] of job.images.entries()) {
      const image = Buffer.from(await (await fetch(server.url + url)).arrayBuffer())
      expect(Buffer.compare(image, await pipe.generate({ prompt, width, height, steps: 4, seed: 7 + i }))).toBe(0)
      expect((await readParameters(image))!.text).toBe(parameters)
      expect(seed).toBe(7 + i)
    }
  })

  test('events go on after Last-Event-ID, or ?after', async () => {
    const { body } = await post(SMALL)
    const all = await follow(body.id)
    expect(await follow(body.id, { 'last-event-id': '2' })).toEqual(all.slice(2))
    const rest = []
    for await (const event of eventsOf(await fetch(`${server.url}/v1/jobs/${body.id}/events?after=3`))) rest.push(event)
    expect(rest).toEqual(all.slice(3))
  })

  test('waits for those before it, says so, and is cancelled while it waits or runs', async () => {
    const { body: first } = await post(LONG)
    const { body: second } = await post(SMALL)
    const { body: third } = await post({ ...SMALL, priority: 1 })
    await until(async () => (await stateOf(first.id)) === 'running', 'the first job')
    expect((await get(`/v1/jobs/${third.id}`)).position).toBe(1)
    expect((await get(`/v1/jobs/${second.id}`)).position).toBe(2)
    expect(await cancel(second.id)).toMatchObject({ state: 'cancelled' })
    expect((await follow(second.id)).at(-1)!.event).toBe('cancelled')
    await cancel(first.id)
    expect((await follow(first.id)).at(-1)!.event).toBe('cancelled')
    expect((await follow(third.id)).at(-1)!.event).toBe('completed')
    expect(await cancel(third.id)).toMatchObject({ state: 'completed' })
  })

  test('with an Idempotency-Key: the same job for the same request, an error for another', async () => {
    const headers = { 'idempotency-key': 'one' }
    const { body: first } = await post(SMALL, headers)
    const { body: again } = await post(SMALL, headers)
    expect(again.id).toBe(first.id)
    await follow(first.id)
    expect((await post(SMALL, headers)).body).toMatchObject({ id: first.id, state: 'completed' })
    const { response, body } = await post({ ...SMALL, seed: 8 }, headers)
    expect(response.status).toBe(400)
    expect(body.error.message).toMatch(/Idempotency-Key/)
    expect((await post(SMALL, { 'idempotency-key': 'two' })).body.id).not.toBe(first.id)
  })

  test('that nobody follows any more ends, if it is asked to', async () => {
    const { body } = await post({ ...LONG, on_disconnect: 'cancel' })
    const controller = new AbortController()
    const response = await fetch(`${server.url}/v1/jobs/${body.id}/events`, { signal: controller.signal })
    for await (const { event } of eventsOf(response)) if (event === 'step') break
    controller.abort()
    await until(async () => (await stateOf(body.id)) === 'cancelled', 'the cancellation')
  })

  test('whose client hangs up while the answer is the image', async () => {
    const images = `${server.url}/v1/images/generations`
    const ask = async (more: object) => {
      const controller = new AbortController()
      const body = JSON.stringify({ prompt: 'a circle', size: '512x512', steps: 20, ...more })
      const headers = { 'content-type': 'application/json' }
      const call = fetch(images, { method: 'POST', headers, body, signal: controller.signal })
      call.catch(() => {})
      await until(async () => (await get('/health')).running === 1, 'the job')
      const { job } = server.log.findLast(({ msg }) => msg === 'job') as { job: string }
      controller.abort()
      return job
    }
    const cancelled = await ask({})
    await until(async () => (await stateOf(cancelled)) === 'cancelled', 'the cancellation')
    const goesOn = await ask({ on_disconnect: 'continue', steps: 3 })
    await until(async () => (await stateOf(goesOn)) === 'completed', 'the image')
  })

  test('with options of every kind: each reaches the pipeline', async () => {
    const wire = {
      ...{
        ...SMALL,
        negative_prompt: 'blue',
        true_cfg: 2,
        guidance: 3,
        sampler: 'heun',
        scheduler: 'karras',
        shift: false,
      },
      ...{
        max_sequence_length: 16,
        prompt_weights: true,
        variation: { seed: 3, strength: 0.2 },
        hires: { scale: 2, steps: 2 },
      },
    }
    const { body } = await post(wire)
    expect((await follow(body.id)).at(-1)!.event).toBe('completed')
    const { images } = await get(`/v1/jobs/${body.id}`)
    await using pipe = await loadTiny({ backend: 'cpu' })
    const direct = await pipe.generate({
      ...{
        ...SMALL,
        negativePrompt: 'blue',
        trueCfg: 2,
        guidance: 3,
        sampler: 'heun',
        scheduler: 'karras',
        shift: false,
      },
      ...{
        maxSequenceLength: 16,
        promptWeights: true,
        variation: { seed: 3, strength: 0.2 },
        hires: { scale: 2, steps: 2 },
      },
    })
    const image = Buffer.from(await (await fetch(server.url + images[0].url)).arrayBuffer())
    expect(Buffer.compare(image, direct)).toBe(0)
  })
})

test('limits: jobs of a client, and of the queue', async () => {
  const jobs = await Promise.all(Array.from({ length: 8 }, () => post(LONG)))
  const statuses = jobs.map(({ response }) => response.status)
  expect(statuses.filter((status) => status === 202)).toHaveLength(5) // one runs, four wait
  const refused = jobs.find(({ response }) => response.status === 429)!
  expect(refused.response.headers.get('retry-after')).toBe('5')
  expect(refused.body.error).toMatchObject({ type: 'rate_limit_error', code: 'FLUX_BUSY' })
  for (const { body } of jobs) if (body.id) await cancel(body.id)
})

test('a crash of the process that computes fails its job, and the queue goes on', async () => {
  const { body: first } = await post(LONG)
  const { body: second } = await post(SMALL)
  await until(async () => (await get(`/v1/jobs/${first.id}`)).step > 0, 'the first step')
  const { stdout } = spawnSync('ps', ['-o', 'pid=,args=', '--ppid', String(process.pid)], { encoding: 'utf8' })
  const [engine] = stdout.split('\n').filter((line) => line.includes('engine-process'))
  process.kill(Number.parseInt(engine!, 10), 'SIGSEGV')
  expect((await follow(first.id)).at(-1)).toMatchObject({ event: 'failed', data: { code: 'FLUX_CRASHED' } })
  expect(await get(`/v1/jobs/${first.id}`)).toMatchObject({
    state: 'failed',
    error: { code: 'FLUX_CRASHED', message: expect.stringMatching(/SIGSEGV/) as string },
  })
  expect((await follow(second.id)).at(-1)!.event).toBe('completed')
  expect(server.log).toContainEqual(expect.objectContaining({ msg: 'job failed', job: first.id, code: 'FLUX_CRASHED' }))
})

test('metrics', async () => {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  expect(text).toMatch(/ggflux_jobs_total\{state="completed",model="tiny"\} \d/)
  expect(text).toMatch(/ggflux_stage_seconds_count\{stage="denoise",model="tiny"\} [1-9]/)
  expect(text).toMatch(/ggflux_queue_jobs\{state="waiting"\} 0/)
  expect(text).toMatch(/ggflux_device_memory_bytes\{device="CPU",kind="total"\} \d{9}/)
  expect(text).toMatch(/ggflux_http_request_seconds_count\{method="POST",route="\/v1\/jobs",status="202"\} [1-9]/)
  expect(text).toMatch(/nodejs_eventloop_lag_p99_seconds/)
})

test('the log has a line for each request, and no prompt', async () => {
  await post(SMALL)
  const lines = server.log.filter(({ msg }) => msg === 'request')
  expect(lines.length).toBeGreaterThan(20)
  expect(lines[0]).toMatchObject({ method: 'POST', route: '/v1/jobs', status: 202, ip: '127.0.0.1' })
  expect(JSON.stringify(server.log)).not.toContain('red circle')
})
