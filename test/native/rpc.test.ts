import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, expect, test } from 'vitest'
import { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import { FluxTransformer } from '../../lib/nn.js'
import { anyInput } from '../support/any-input.mjs'
import { testAttachments } from '../support/attachments-suite.js'
import { goldenWeights } from '../support/golden.js'
import { testGolden } from '../support/golden-suite.js'
import { freePort, startRpcServer } from '../support/rpc-server.js'
import { SMALL, streamed } from '../support/tiny.js'

// Every buffer of this device is in another process: what these tests pass, a GPU with memory of its own does as well.
const server = await startRpcServer()
afterAll(() => server.stop())

testGolden('on an RPC server', { backend: server.backend })
testGolden('on an RPC server without room for matrices', { backend: server.backend, deviceMemory: 0 })
testAttachments('on an RPC server', { backend: server.backend })
testAttachments('on an RPC server without room for matrices', { backend: server.backend, deviceMemory: 0 })

test('what finds no room on the device stays in this memory, the last matrices first', async () => {
  const memory = async (deviceMemory?: number) => {
    await using flux = await FluxTransformer.load(await weights(), {
      backend: server.backend,
      ...(deviceMemory === undefined ? {} : { deviceMemory }),
    })
    return flux.memory()
  }
  const [all, half, none] = [await memory(), await memory(1e6), await memory(0)]
  expect(all.mapped).toBe(0)
  expect(half.weights).toBeLessThanOrEqual(1e6)
  expect(half.weights).toBeGreaterThan(0.5e6)
  expect(none.weights).toBeLessThan(half.weights)
  for (const { weights, mapped } of [half, none])
    expect(Math.abs(weights + mapped - all.weights)).toBeLessThan(0.01 * all.weights)
  await expect(FluxTransformer.load(await weights(), { deviceMemory: -1 })).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
  })
})

const weights = () => goldenWeights('flux-dev-tiny')

test('a pipeline makes its picture on the server, as on this machine but for rounding', {
  timeout: 120_000,
}, async () => {
  await using remote = await FluxPipeline.load('tiny', { backend: server.backend, textEncoders: 'release' })
  await using local = await FluxPipeline.load('tiny', { backend: 'cpu' })
  const [there, here] = [(await streamed(remote, SMALL)).image, (await streamed(local, SMALL)).image]
  const apart = there.map((byte, i) => Math.abs(byte - here[i]!)).reduce((sum, d) => sum + d, 0) / here.length
  expect(here.length).toBe(64 * 64 * 3)
  expect(apart).toBeLessThan(2)
})

test('an abort ends a step on the server', async () => {
  await using flux = await FluxTransformer.load(await weights(), { backend: server.backend })
  const controller = new AbortController()
  const call = flux.predict({ ...anyInput(flux, 64, 512), signal: controller.signal })
  setTimeout(() => controller.abort(new Error('enough')), 100)
  await expect(call).rejects.toThrow('enough')
  expect(await flux.predict(anyInput(flux, 8, 16))).toHaveLength(64 * 64)
})

test('a server that ends in the middle costs an error, and another one at its place serves again', {
  timeout: 120_000,
}, async () => {
  const first = await startRpcServer()
  const flux = await FluxTransformer.load(await weights(), { backend: first.backend })
  const call = flux.predict(anyInput(flux, 64, 512))
  const outcome = expect(call).rejects.toMatchObject({
    code: 'FLUX_DEVICE',
    message: expect.stringContaining('lost') as string,
  })
  await sleep(200)
  await first.stop()
  await outcome
  await expect(flux.predict(anyInput(flux, 8, 16))).rejects.toMatchObject({ code: 'FLUX_DEVICE' })
  await flux.close()

  const second = await startRpcServer(first.port)
  try {
    await using again = await FluxTransformer.load(await weights(), { backend: second.backend })
    expect(await again.predict(anyInput(again, 8, 16))).toHaveLength(64 * 64)
  } finally {
    await second.stop()
  }
})

// Windows cannot pause a process.
test.skipIf(process.platform === 'win32').each(['in this thread', 'in a worker'])(
  'a server that stops answering keeps no process that wants to end: %s',
  { timeout: 120_000 },
  async (way) => {
    const silent = await startRpcServer()
    try {
      const child = fork(fileURLToPath(new URL('children/silent-server.mjs', import.meta.url)), [
        way,
        silent.backend,
        await weights(),
      ])
      await once(child, 'message')
      silent.pause()
      child.send('leave')
      const left = performance.now()
      const killed = setTimeout(() => child.kill('SIGKILL'), 30_000)
      expect(await once(child, 'exit')).toEqual([7, null])
      clearTimeout(killed)
      console.log(`${way}: left after ${(performance.now() - left).toFixed(0)} ms`)
    } finally {
      await silent.stop()
    }
  },
)

// ---- what is no server ----

const impostors: (() => void)[] = []
afterEach(() => impostors.splice(0).forEach((end) => end()))

/** A port where every connection is given to `talk`. */
async function impostor(talk: (socket: Socket) => void): Promise<string> {
  const sockets: Socket[] = []
  const listener = createServer((socket) => {
    sockets.push(socket.on('error', () => {}))
    talk(socket)
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  impostors.push(() => {
    listener.close()
    for (const socket of sockets) socket.destroy()
  })
  return `rpc://127.0.0.1:${(listener.address() as AddressInfo).port}`
}

/** what a server of this version answers to a greeting: 28 bytes, version 7.0.0 */
function greeting(major: number, minor: number): Buffer {
  const answer = Buffer.alloc(8 + 28)
  answer.writeBigUInt64LE(28n)
  answer.set([major, minor], 8)
  return answer
}

async function loadingOn(backend: string, signal?: AbortSignal): Promise<unknown> {
  return FluxTransformer.load(await weights(), { backend, ...(signal ? { signal } : {}) }).then(
    () => 'loaded',
    (error) => error,
  )
}

test.each([
  [
    'an HTTP server',
    (socket: Socket) => void socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
    /no RPC server/,
  ],
  ['a program that hangs up', (socket: Socket) => void socket.destroy(), /closed the connection/],
  ['a server of another version', (socket: Socket) => void socket.write(greeting(6, 2)), /version 6\.2/],
  [
    'a server that hangs up after its greeting',
    (socket: Socket) => void socket.once('data', () => socket.end(greeting(7, 0))),
    /RPC server/,
  ],
])('%s at the port is told', async (_, talk, message) => {
  expect(await loadingOn(await impostor(talk))).toMatchObject({
    code: 'FLUX_DEVICE',
    message: expect.stringMatching(message) as string,
  })
})

test('a server without devices, or without the one that is asked for, is told', async () => {
  expect(await loadingOn(`${server.backend}/3`)).toMatchObject({
    code: 'FLUX_DEVICE',
    message: expect.stringContaining('has 1 devices') as string,
  })
})

test('a port where nothing listens, and one where nobody answers, are told; waiting can be aborted', {
  timeout: 30_000,
}, async () => {
  const reach = expect.stringContaining('cannot be reached') as string
  expect(await loadingOn(`rpc://127.0.0.1:${await freePort()}`)).toMatchObject({ code: 'FLUX_DEVICE', message: reach })
  const silent = await impostor(() => {})
  const reason = new Error('enough')
  expect(await loadingOn(silent, AbortSignal.any([AbortSignal.abort(reason)]))).toBe(reason)
  const answer = expect.stringContaining('did not answer within 5 s') as string
  expect(await loadingOn(silent)).toMatchObject({ code: 'FLUX_DEVICE', message: answer })
})

test.each([
  'rpc://',
  'rpc:1234',
  'rpc://host',
  'rpc://host:0',
  'rpc://host:70000',
  'rpc://host:1/x',
  'rpc://[::1]:50052',
  'rpc://a b:1',
])('the address %s is refused', async (backend) => {
  expect(await loadingOn(backend)).toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: expect.stringContaining(backend) as string,
  })
})
