import { setMaxListeners } from 'node:events'
import { untilAborted } from './abort.js'
import { FluxError } from './errors.js'

/** Lets one user in at a time, in the order of asking. */
export class Queue {
  readonly #closed = new AbortController()
  readonly #what: string
  #last: Promise<void> = Promise.resolve()

  constructor(what: string) {
    this.#what = what
    // one listener for each who waits
    setMaxListeners(0, this.#closed.signal)
  }

  /**
   * Waits for its turn.
   *
   * @returns to be called when done; further calls do nothing
   * @throws {FluxError} FLUX_CLOSED after `close()`; the signal's reason when it is aborted while waiting
   */
  async enter(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted()
    this.#closed.signal.throwIfAborted()
    const before = this.#last
    let leave!: () => void
    const left = new Promise<void>((resolve) => (leave = resolve))
    this.#last = before.then(() => left)
    try {
      await untilAborted(untilAborted(before, this.#closed.signal), signal)
      return leave
    } catch (error) {
      leave()
      throw error
    }
  }

  /** Refuses whoever waits or comes later. */
  close(): void {
    this.#closed.abort(new FluxError('FLUX_CLOSED', `${this.#what} was closed; load it again`))
  }
}
