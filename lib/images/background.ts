import { Worker } from 'node:worker_threads'
import type { Answer, Jobs, Request } from './background-worker.js'
import { FluxError } from '../errors.js'

const IDLE_MS = 10_000

let thread: BackgroundThread | undefined

/**
 * Computes in a worker thread, so that the event loop is not blocked. The first call starts the thread, and later calls
 * share it. It keeps the process alive only while it works, and ends after 10 idle seconds.
 *
 * @param moved buffers among the arguments that are moved instead of copied; the caller cannot use them afterwards
 */
export function inBackground<Job extends keyof Jobs>(
  job: Job,
  args: Parameters<Jobs[Job]>,
  moved: ArrayBuffer[] = [],
): Promise<ReturnType<Jobs[Job]>> {
  thread ??= new BackgroundThread()
  return thread.run(job, args, moved)
}

class BackgroundThread {
  readonly #worker: Worker
  readonly #pending = new Map<number, { resolve: (result: never) => void; reject: (reason: unknown) => void }>()
  #nextId = 0
  #idle: NodeJS.Timeout | undefined

  constructor() {
    // the program's own flags do not apply to this thread; some, like --input-type, would prevent it from starting
    this.#worker = new Worker(new URL('./background-worker.js', import.meta.url), {
      name: 'ggflux-background',
      execArgv: [],
    })
    this.#worker.on('message', (answer: Answer) => this.#settle(answer))
    this.#worker.on('error', (cause) => this.#fail(cause))
    this.#worker.on('exit', () => this.#fail())
  }

  run<Job extends keyof Jobs>(
    job: Job,
    args: Parameters<Jobs[Job]>,
    moved: ArrayBuffer[],
  ): Promise<ReturnType<Jobs[Job]>> {
    clearTimeout(this.#idle)
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#worker.ref()
      try {
        this.#worker.postMessage({ id, job, args, moved } satisfies Request<Job>, moved)
      } catch (error) {
        // an argument that cannot be copied: no answer will come
        this.#pending.delete(id)
        this.#rest()
        reject(error as Error)
      }
    })
  }

  #settle(answer: Answer): void {
    const { resolve, reject } = this.#pending.get(answer.id)!
    this.#pending.delete(answer.id)
    if ('result' in answer) resolve(answer.result as never)
    else reject(answer.error)
    this.#rest()
  }

  /** without work, lets the process exit, and ends after a while */
  #rest(): void {
    if (this.#pending.size > 0) return
    this.#worker.unref()
    this.#idle = setTimeout(() => {
      this.#retire()
      void this.#worker.terminate()
    }, IDLE_MS).unref()
  }

  /** makes the next call start another thread */
  #retire(): void {
    if (thread === this) thread = undefined
  }

  #fail(cause?: unknown): void {
    this.#retire()
    const error = new FluxError(
      'FLUX_CRASHED',
      'the thread that works on images ended: try again, or with a smaller image',
      { cause },
    )
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }
}
