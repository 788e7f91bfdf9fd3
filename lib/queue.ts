import { FluxError } from './errors.js'

/** Lets one user in at a time, in the order of asking. */
export class Queue {
  readonly #what: string
  #last: Promise<void> = Promise.resolve()
  #closed = false

  constructor(what: string) {
    this.#what = what
  }

  /**
   * Waits for its turn.
   *
   * @returns to be called when done; further calls do nothing
   * @throws {FluxError} FLUX_CLOSED after `close()`; the signal's reason when it is aborted while waiting
   */
  async enter(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted()
    this.#refuseWhenClosed()
    const before = this.#last
    const { promise, resolve: leave } = withResolvers()
    this.#last = before.then(() => promise)
    try {
      await untilAborted(before, signal)
      this.#refuseWhenClosed()
      return leave
    } catch (error) {
      leave()
      throw error
    }
  }

  /** Refuses whoever waits or comes later. */
  close(): void {
    this.#closed = true
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new FluxError('FLUX_CLOSED', `${this.#what} was closed; load it again`)
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((r) => (resolve = r))
  return { promise, resolve }
}

function untilAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return promise
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', abort, { once: true })
    void promise.then(resolve).finally(() => signal.removeEventListener('abort', abort))
  })
}
