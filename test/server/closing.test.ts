import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { createServer } from '../../lib/server/index.js'
import { postJson, startServer, until } from '../support/server.js'

const SMALL = { prompt: 'a circle', size: '64x64', steps: 2 }
const runs = async (url: string) => ((await (await fetch(`${url}/health`)).json()) as { running: number }).running === 1

describe('close', () => {
  test('lets what runs end, refuses what waits, and takes nothing new', async () => {
    const server = await startServer({ patience: 60_000 })
    const images = `${server.url}/v1/images/generations`
    const running = postJson(images, { ...SMALL, size: '256x256', steps: 12 })
    await until(() => runs(server.url), 'the job')
    const waiting = postJson(images, SMALL)
    await until(
      async () => ((await (await fetch(`${server.url}/health`)).json()) as any).waiting === 1,
      'the second job',
    )
    const closed = server.close()
    const late = await postJson(images, SMALL)
    expect(late.response.status).toBe(503)
    expect(late.body.error.code).toBe('FLUX_CLOSED')
    expect((await waiting).response.status).toBe(503)
    expect((await running).response.status).toBe(200)
    await closed
    await expect(fetch(`${server.url}/health`)).rejects.toThrow()
  })

  test('cancels what runs after its patience', async () => {
    const server = await startServer({ patience: 100 })
    const running = postJson(`${server.url}/v1/images/generations`, { ...SMALL, size: '512x512', steps: 150 })
    await until(() => runs(server.url), 'the job')
    await server.close()
    expect((await running).response.status).toBe(503)
  })

  test('twice, before listening, and with followers', async () => {
    const idle = await createServer({ port: 0, logLevel: 'silent' })
    await Promise.all([idle.close(), idle.close()])
    const server = await startServer({ patience: 0 })
    const { body } = await postJson(`${server.url}/v1/jobs`, { prompt: 'a', width: 512, height: 512, steps: 100 })
    const events = fetch(`${server.url}/v1/jobs/${body.id}/events`).then((response) => response.text())
    await until(() => runs(server.url), 'the job')
    await server.close()
    expect(await events).toMatch(/event: failed\ndata: .*FLUX_CLOSED/)
  })
})

describe('ggflux serve', () => {
  const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
  async function serve(args: string[] = []) {
    const child = spawn(process.execPath, [program, 'serve', '--port', '0', '--backend', 'cpu', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, GGFLUX_API_KEY: '' },
    })
    const log: string[] = []
    createInterface(child.stdout).on('line', (line) => log.push(line))
    const ended = once(child, 'exit')
    const lines: string[] = []
    let url = ''
    for await (const line of createInterface(child.stderr)) {
      lines.push(line)
      url = /http:\/\/[\d.]+:\d+/.exec(line)?.[0] ?? ''
      if (url) break
    }
    return { child, url, log, lines, ended }
  }

  test.each(['SIGINT', 'SIGTERM'] as const)('%s: the running image is finished, the status is 0', async (signal) => {
    const { child, url, ended } = await serve()
    const answer = postJson(`${url}/v1/images/generations`, { ...SMALL, size: '256x256', steps: 6 })
    await until(() => runs(url), 'the job')
    child.kill(signal)
    expect((await answer).response.status).toBe(200)
    expect((await ended)[0]).toBe(0)
  })

  test('a second Ctrl-C ends it at once', async () => {
    const { child, url, ended } = await serve()
    postJson(`${url}/v1/images/generations`, { ...SMALL, size: '512x512', steps: 150 }).catch(() => {})
    await until(() => runs(url), 'the job')
    child.kill('SIGINT')
    setTimeout(() => child.kill('SIGINT'), 300)
    expect((await ended)[0]).toBe(130)
  })

  test('the log is JSON, without prompts, or with them on request', async () => {
    for (const args of [[], ['--log-prompts']]) {
      const { child, url, log, ended } = await serve(args)
      await postJson(`${url}/v1/images/generations`, { ...SMALL, prompt: 'a secret wish' })
      child.kill('SIGTERM')
      await ended
      const lines = log.map((line) => JSON.parse(line) as { msg: string; route?: string })
      expect(lines.some(({ msg, route }) => msg === 'request' && route === '/v1/images/generations')).toBe(true)
      expect(log.join('').includes('a secret wish')).toBe(args.length > 0)
    }
  })

  test.each<[string[], RegExp]>([
    [['--host', '0.0.0.0'], /give an API key \(--api-key, GGFLUX_API_KEY\), or allow everybody with --no-auth/],
    [['--model', 'no-such-folder'], /no-such-folder/],
    [['--alias', 'x'], /Give name=model/],
    [['--max-steps', '0'], /limits.steps is 0/],
  ])('%j: one sentence, and a status', async (args, message) => {
    const { lines, ended, url } = await serve(args)
    expect(url).toBe('')
    expect(lines.join('\n')).toMatch(message)
    expect([1, 2]).toContain((await ended)[0])
  })

  test('a port that is taken: one sentence', async () => {
    const first = await serve()
    const second = spawn(process.execPath, [program, 'serve', '--port', new URL(first.url).port], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let text = ''
    second.stderr.on('data', (data) => (text += data))
    expect((await once(second, 'exit'))[0]).toBe(1)
    expect(text).toMatch(/^ggflux: cannot listen at 127\.0\.0\.1:\d+ \(.*\); choose another port/)
    first.child.kill('SIGTERM')
    await first.ended
  })
})
