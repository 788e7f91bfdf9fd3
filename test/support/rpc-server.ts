import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** `ggflux rpc-server` in a process of its own, listening; `backend` is what names it. One that is paused takes connections and never answers. */
export async function startRpcServer(
  port?: number,
): Promise<{ backend: string; port: number; pause(): void; stop(): Promise<void> }> {
  const chosen = port ?? (await freePort())
  const child = spawn(process.execPath, [program, 'rpc-server', '--port', String(chosen), '--threads', '2'], {
    stdio: 'ignore',
  })
  await listening(child, chosen)
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  return { backend: `rpc://127.0.0.1:${chosen}`, port: chosen, pause: () => void child.kill('SIGSTOP'), stop }
}

/** A port where nothing listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function listening(child: ChildProcess, port: number): Promise<void> {
  while (child.exitCode === null) {
    const socket = connect(port, '127.0.0.1')
    const connected = await new Promise((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    )
    socket.destroy()
    if (connected) return
    await sleep(20)
  }
  throw new Error(`ggflux rpc-server ended with the code ${child.exitCode}`)
}
