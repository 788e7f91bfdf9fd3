import { Worker } from 'node:worker_threads'
import { FluxError } from './errors.js'
import type { PngAnswer } from './image-worker.js'
import type { PngInput } from './png.js'

const IDLE_MS = 10_000

let thread: PngThread | undefined

/**
 * Encodes a PNG in a worker thread, so that the event loop goes on. The thread is started by the first call, shared, keeps the process
 * alive only while it works, and ends after 10 idle seconds. `input.rgb` is moved to it and unusable afterwards.
 */
export function encodePngInThread(input: PngInput): Promise<Buffer> {
  thread ??= new PngThread()
  return thread.encode(input)
}

class PngThread {
  readonly #worker: Worker
  readonly #pending = new Map<number, { resolve: (png: Buffer) => void, reject: (reason: unknown) => void }>()
  #nextId = 0
  #idle: NodeJS.Timeout | undefined

  constructor() {
    // the program's own flags are not for this thread; some, like --input-type, would keep it from starting
    this.#worker = new Worker(new URL('./image-worker.js', import.meta.url), { name: 'ggflux-image', execArgv: [] })
    this.#worker.on('message', (answer: PngAnswer) => this.#settle(answer))
    this.#worker.on('error', (cause) => this.#fail(cause))
    this.#worker.on('exit', () => this.#fail())
  }

  encode(input: PngInput): Promise<Buffer> {
    clearTimeout(this.#idle)
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#worker.ref()
      this.#worker.postMessage({ id, input }, [input.rgb.buffer])
    })
  }

  #settle(answer: PngAnswer): void {
    const { resolve, reject } = this.#pending.get(answer.id)!
    this.#pending.delete(answer.id)
    if ('png' in answer) resolve(Buffer.from(answer.png.buffer))
    else reject(answer.error)
    if (this.#pending.size > 0) return
    this.#worker.unref()
    this.#idle = setTimeout(() => {
      this.#retire()
      void this.#worker.terminate()
    }, IDLE_MS).unref()
  }

  /** the next call starts another thread */
  #retire(): void {
    if (thread === this) thread = undefined
  }

  #fail(cause?: unknown): void {
    this.#retire()
    const error = new FluxError('FLUX_CRASHED', 'the thread that encodes pictures ended: try again, or with a smaller picture', { cause })
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }
}
