import type { Command } from 'commander'
import { FluxError } from '../errors.js'
import { parseNumber } from './arguments.js'
import { printTrial } from './live-line.js'

interface Options {
  host: string
  port: number
  backend?: string
  threads?: number
}

export function rpcServerCommand(program: Command): void {
  program
    .command('rpc-server')
    .description("let ggflux on another machine compute on this machine's GPU or CPU, one program at a time")
    .option('--host <name>', 'the address to listen on; 0.0.0.0 for all of this machine', '127.0.0.1')
    .option('--port <number>', 'the port to listen on', parseNumber, 50052)
    .option('--backend <name>', 'auto, cpu, gpu, or a name from ggflux devices (default: auto)')
    .option('--threads <number>', 'CPU threads (default: one per processor)', parseNumber)
    .addHelpText(
      'after',
      `
The protocol has neither passwords nor encryption: anyone who reaches the port can compute here, read what is computed, and end the server.
Listen only in a network that you trust, or tunnel the port (ssh -L 50052:localhost:50052 machine).

Examples:
  ggflux rpc-server --host 0.0.0.0
  ggflux generate "a red circle" --backend rpc://192.168.1.20:50052        (on the other machine)`,
    )
    .action(serve)
}

async function serve({ host, port, backend, threads }: Options): Promise<void> {
  const { availableParallelism } = await import('node:os')
  const { chooseDevice } = await import('../native/devices.js')
  const { nativeServeRpc } = await import('../native/addon.js')
  const { badOption, requireWhole } = await import('../options/checks.js')
  if (!/^[\w.-]{1,253}$/.test(host)) throw badOption('--host', host, 'a name or an IPv4 address')
  requireWhole('--port', port, 1, 65535)
  if (threads !== undefined) requireWhole('--threads', threads, 1, 512)
  const { name: device } = await chooseDevice(backend, { onTrial: printTrial })
  if (device.startsWith('rpc:')) throw badOption('--backend', device, 'a device of this machine, see ggflux devices')
  await requireFree(host, port)
  process.stderr.write(
    `serving ${device} at rpc://${host}:${port}; Ctrl-C ends it. Anyone who can reach this port can use it.\n`,
  )
  nativeServeRpc(`${host}:${port}`, device, threads ?? availableParallelism())
}

/** Checks the port first, because ggml reports only that it failed. */
async function requireFree(host: string, port: number): Promise<void> {
  const { createServer } = await import('node:net')
  const probe = createServer()
  await new Promise<void>((resolve, reject) => {
    probe.once('error', ({ message }) => {
      reject(
        new FluxError(
          'FLUX_DEVICE',
          `cannot listen at ${host}:${port} (${message}); choose another --port, or a --host of this machine`,
        ),
      )
    })
    probe.listen(port, host, () => probe.close(() => resolve()))
  })
}
