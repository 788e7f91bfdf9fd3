import { Worker } from 'node:worker_threads'
import type { Answer, Jobs, Request } from './background-worker.js'
import { FluxError } from '../errors.js'
import { onAbort } from '../options/abort.js'

const IDLE_MS = 10_000

let thread: BackgroundThread | undefined

/**
 * Computes in a worker thread, so that the event loop is not blocked. The first call starts the thread, and later calls
 * share it. It keeps the process alive only while it works, and ends after 10 idle seconds.
 *
 * @param moved buffers among the arguments that are moved instead of copied; the caller cannot use them afterwards
 * @param signal rejects with its reason at once; the computation stops as well, unless the thread has others to do
 */
export function inBackground<Job extends keyof Jobs>(
  job: Job,
  args: Parameters<Jobs[Job]>,
  moved: ArrayBuffer[] = [],
  signal?: AbortSignal,
): Promise<ReturnType<Jobs[Job]>> {
  if (signal?.aborted) return Promise.reject(signal.reason as Error)
  thread ??= new BackgroundThread()
  return thread.run(job, args, moved, signal)
}

/** A computation that has not been answered. */
interface Pending {
  resolve: (result: never) => void
  reject: (reason: unknown) => void
  /** whether nobody waits for it any more */
  abandoned: boolean
  unlisten: (() => void) | undefined
}

class BackgroundThread {
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
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
    signal: AbortSignal | undefined,
  ): Promise<ReturnType<Jobs[Job]>> {
    clearTimeout(this.#idle)
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const unlisten = signal && onAbort(signal, () => this.#abandon(id, signal.reason))
      this.#pending.set(id, { resolve, reject, abandoned: false, unlisten })
      this.#worker.ref()
      try {
        this.#worker.postMessage({ id, job, args, moved } satisfies Request<Job>, moved)
      } catch (error) {
        // an argument that cannot be copied: no answer will come
        this.#remove(id)
        this.#rest()
        reject(error as Error)
      }
    })
  }

  #settle(answer: Answer): void {
    const pending = this.#remove(answer.id)
    if (!pending) return // answered while the thread was stopped
    if ('result' in answer) pending.resolve(answer.result as never)
    else pending.reject(answer.error)
    this.#rest()
  }

  #remove(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    pending?.unlisten?.()
    this.#pending.delete(id)
    return pending
  }

  /** A computation cannot be interrupted, so the thread ends if nobody waits for any. The next call starts another. */
  #abandon(id: number, reason: unknown): void {
    const abandoned = this.#pending.get(id)!
    abandoned.abandoned = true
    abandoned.reject(reason)
    if (![...this.#pending.values()].every(({ abandoned }) => abandoned)) return
    for (const id of this.#pending.keys()) this.#remove(id)
    this.#end()
  }

  /** without work, lets the process exit, and ends after a while */
  #rest(): void {
    if (this.#pending.size > 0) return
    this.#worker.unref()
    this.#idle = setTimeout(() => this.#end(), IDLE_MS).unref()
  }

  #end(): void {
    this.#retire()
    void this.#worker.terminate()
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
    for (const id of this.#pending.keys()) this.#remove(id)!.reject(error)
  }
}
