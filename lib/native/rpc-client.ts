import { connect } from 'node:net'
import { untilAborted } from '../options/abort.js'
import { FluxError } from '../errors.js'

/** The parts of `backend: 'rpc://host:port/device'`. */
export interface RpcAddress {
  host: string
  port: number
  /** the server's device, counted from 0 */
  device: number
}

// the version of ggml's RPC protocol in this version of ggml
const PROTOCOL = { major: 7, minor: 0 }
const HELLO = 14
const CAPABILITIES = 24
const ANSWER_MS = 5000

/**
 * @returns undefined if `backend` is not an address
 * @throws {FluxError} FLUX_BAD_OPTION for an invalid address
 */
export function parseRpcAddress(backend: string): RpcAddress | undefined {
  if (!/^rpc:/i.test(backend)) return undefined
  const [, host, port, device = '0'] = /^rpc:\/\/([\w.-]{1,253}):(\d{1,5})(?:\/(\d{1,3}))?$/i.exec(backend) ?? []
  if (!host || Number(port) < 1 || Number(port) > 65535) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `backend is '${backend}': an RPC server is named rpc://host:port, or rpc://host:port/1 for its second device`,
    )
  }
  return { host, port: Number(port), device: Number(device) }
}

// The users of each server. ggml has one connection per process, and the server serves one client at a time, so only
// the first user may greet it.
const users = new Map<string, { count: number; greeted: Promise<void> }>()

/**
 * Call this before a network is loaded on the server.
 *
 * @returns a function to call when the network is closed
 * @throws {FluxError} FLUX_DEVICE; the signal's reason when aborted
 */
export async function useRpcServer(address: RpcAddress, signal?: AbortSignal): Promise<() => void> {
  const endpoint = `${address.host}:${address.port}`
  const entry = users.get(endpoint) ?? { count: 0, greeted: greet(address) }
  users.set(endpoint, entry)
  entry.count++
  const leave = () => {
    if (--entry.count === 0) users.delete(endpoint)
  }
  try {
    await untilAborted(entry.greeted, signal)
    return leave
  } catch (error) {
    leave()
    throw error
  }
}

/**
 * Greets the server as ggml does, but with a timeout. ggml's own client waits forever if the host is off, the server is
 * busy, or the port belongs to another program.
 */
async function greet({ host, port }: RpcAddress): Promise<void> {
  const fail = (what: string) => new FluxError('FLUX_DEVICE', `rpc://${host}:${port} ${what}`)
  const busy = `did not answer within ${ANSWER_MS / 1000} s: it serves one program at a time, or it is no RPC server`
  const answer = await new Promise<Buffer>((resolve, reject) => {
    const socket = connect({ host, port, family: 4 })
    const settle = (done: () => void) => {
      clearTimeout(timer)
      socket.destroy()
      done()
    }
    const timer = setTimeout(() => settle(() => reject(fail(busy))), ANSWER_MS)
    let received = Buffer.alloc(0)
    socket.once('connect', () => socket.write(message(HELLO, Buffer.alloc(CAPABILITIES))))
    socket.on('data', (part: Buffer) => {
      received = Buffer.concat([received, part])
      if (received.length >= 8 + 4) settle(() => resolve(received))
    })
    socket.once('error', ({ message }) =>
      settle(() => reject(fail(`cannot be reached (${message}); start one there with: ggflux rpc-server`))),
    )
    socket.once('close', () => settle(() => reject(fail('is no RPC server: it closed the connection'))))
  })
  // the answer: its length in 8 bytes, major, minor, patch, 0, then the transport's capabilities
  if (answer.readBigUInt64LE() !== BigInt(4 + CAPABILITIES))
    throw fail('is no RPC server, or one of another version of ggml')
  const [major, minor] = [answer[8]!, answer[9]!]
  if (major !== PROTOCOL.major || minor > PROTOCOL.minor) {
    throw fail(
      `speaks version ${major}.${minor} of ggml's RPC protocol, and ${PROTOCOL.major}.${PROTOCOL.minor} is needed; use the same version of ggflux on both sides`,
    )
  }
}

/** command, length, content */
function message(command: number, content: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUInt8(command)
  head.writeBigUInt64LE(BigInt(content.length), 1)
  return Buffer.concat([head, content])
}
