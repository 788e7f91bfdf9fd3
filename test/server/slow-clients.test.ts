import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { sendEvents } from '../../lib/server/sse.js'
import { postJson, startServer } from '../support/server.js'

// Clients that ask and do not read. A connection on this machine takes some megabytes before it is full.

const MEGABYTE = 'x'.repeat(2 ** 20)

async function ask(url: string, path: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => {})
  socket.pause()
  await once(socket, 'connect')
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  return socket
}

test('a stream: the sender waits for the client, then cuts it off', async () => {
  const server = await startServer({ limits: { slowClient: 500 } })
  let sent = 0
  async function* events() {
    for (; sent < 1000; sent++) yield { event: 'x', data: { text: MEGABYTE } }
  }
  let ended = 0
  const { createServer } = await import('../../lib/server/index.js')
  const own = await createServer({ port: 0, logLevel: 'silent' })
  own.app.get('/stream', (_, reply) => sendEvents(reply, events(), 500).finally(() => (ended = performance.now())))
  const socket = await ask(await own.listen(), '/stream')
  const began = performance.now()
  while (!ended) await sleep(20)
  expect(ended - began).toBeGreaterThan(400)
  expect(sent).toBeLessThan(100)
  socket.destroy()
  await own.close()
  expect((await fetch(`${server.url}/health`)).status).toBe(200)
})

test('events without what a slow client can do without', async () => {
  const { createServer } = await import('../../lib/server/index.js')
  const own = await createServer({ port: 0, logLevel: 'silent' })
  async function* events() {
    // more than the connection takes, and each event on its own turn
    for (let i = 0; i < 12; i++) yield { id: i, event: 'step', data: { preview: MEGABYTE }, brief: { brief: true } }
    yield { id: 12, event: 'completed', data: {} }
  }
  own.app.get('/stream', (_, reply) => sendEvents(reply, events(), 5000))
  const socket = await ask(await own.listen(), '/stream')
  await sleep(300)
  let text = ''
  socket.on('data', (data) => (text += data))
  socket.resume()
  while (!text.includes('event: completed')) await sleep(20)
  expect(text.match(/"brief":true/g)?.length).toBeGreaterThan(0)
  expect(text.match(/^id: /gm)).toHaveLength(13)
  socket.destroy()
  await own.close()
})

test('an answer that is not read is cut off', async () => {
  const { createServer } = await import('../../lib/server/index.js')
  const own = await createServer({ port: 0, logLevel: 'silent', limits: { slowClient: 300 } })
  let closed = false
  own.app.get('/large', (_, reply) => {
    reply.raw.once('close', () => (closed = true))
    return reply.send(Buffer.alloc(64 * 2 ** 20))
  })
  const socket = await ask(await own.listen(), '/large')
  for (let i = 0; i < 200 && !closed; i++) await sleep(50)
  expect(closed).toBe(true)
  socket.destroy()
  await own.close()
})

test('a job whose follower does not read ends all the same', async () => {
  const server = await startServer()
  const { body } = await postJson(`${server.url}/v1/jobs`, {
    prompt: 'a',
    width: 64,
    height: 64,
    steps: 4,
    previews: true,
  })
  const socket = await ask(server.url, `/v1/jobs/${body.id}/events`)
  for (let state = ''; state !== 'completed'; await sleep(20))
    state = ((await (await fetch(`${server.url}/v1/jobs/${body.id}`)).json()) as { state: string }).state
  socket.destroy()
})
