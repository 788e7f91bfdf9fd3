import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { freePort } from './rpc-server.js'

const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** Whether there is a redis-server here. */
export const hasRedis = spawnSync('redis-server', ['--version']).status === 0

/** A redis-server on a free port that writes every change to disk, so that it can be started again with its data. */
export class TestRedis {
  readonly url: string
  readonly #port: number
  readonly #folder: string
  #server!: ChildProcess
  #client: Redis | undefined

  private constructor(port: number, folder: string) {
    this.#port = port
    this.#folder = folder
    this.url = `redis://127.0.0.1:${port}`
  }

  static async start(folder: string, options: string[] = []): Promise<TestRedis> {
    const redis = new TestRedis(await freePort(), mkdtempSync(join(folder, 'redis-')))
    await redis.begin(options)
    return redis
  }

  async begin(options: string[] = []): Promise<void> {
    const args = ['--port', String(this.#port), '--dir', this.#folder, '--save', '', '--appendonly', 'yes', ...options]
    this.#server = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    for await (const line of createInterface(this.#server.stdout!)) if (line.includes('Ready to accept')) break
    this.#server.stdout!.resume()
  }

  /** Ends the server as a power failure does. */
  async kill(): Promise<void> {
    const ended = once(this.#server, 'exit')
    this.#server.kill('SIGKILL')
    await ended
  }

  /** For what tests look at. */
  get client(): Redis {
    return (this.#client ??= new Redis(this.url, { maxRetriesPerRequest: null }).on('error', () => {}))
  }

  async stop(): Promise<void> {
    this.#client?.disconnect()
    if (this.#server.exitCode === null && this.#server.signalCode === null) await this.kill()
  }
}

/** `ggflux worker` in a process of its own. */
export interface TestWorker {
  /** what it logged of each job */
  log: Record<string, unknown>[]
  said(): string
  /** the process that computes */
  childPid(): number | undefined
  signal(name: NodeJS.Signals): Promise<number | null>
}

export async function startWorker(url: string, store: string, options: string[] = []): Promise<TestWorker> {
  mkdirSync(store, { recursive: true })
  const args = [program, 'worker', '--redis', url, '--results', store, '--threads', '1', ...options]
  const worker = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const log: Record<string, unknown>[] = []
  createInterface(worker.stdout).on('line', (line) => log.push(JSON.parse(line) as Record<string, unknown>))
  let said = ''
  const ended = once(worker, 'exit') as Promise<[number | null]>
  await new Promise<void>((resolve, reject) => {
    worker.stderr.on('data', (data: Buffer) => {
      said += data.toString()
      if (said.includes('offering')) resolve()
    })
    void ended.then(([code]) => reject(new Error(`ggflux worker ended with ${code}: ${said}`)))
  })
  return {
    log,
    said: () => said,
    childPid() {
      const { stdout } = spawnSync('pgrep', ['-P', String(worker.pid)], { encoding: 'utf8' })
      const [pid] = stdout.trim().split('\n')
      return pid ? Number(pid) : undefined
    },
    async signal(name) {
      worker.kill(name)
      return (await ended)[0]
    },
  }
}
