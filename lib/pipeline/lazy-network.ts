import { FluxError } from '../errors.js'

interface Closable {
  close(): Promise<void>
}

/**
 * A network that is loaded when it is first needed, and can be released and loaded again. It has one user at a time.
 */
export class LazyNetwork<N extends Closable> {
  readonly #load: (signal: AbortSignal) => Promise<N>
  readonly #closed = new AbortController()
  #network: Promise<N> | undefined

  constructor(load: (signal: AbortSignal) => Promise<N>) {
    this.#load = load
  }

  get loaded(): boolean {
    return this.#network !== undefined
  }

  /**
   * @throws {FluxError} FLUX_CLOSED after `close()`, which also stops a load in progress; otherwise what loading
   *   throws, and the next call tries again
   */
  async get(signal?: AbortSignal): Promise<N> {
    const closed = this.#closed.signal
    closed.throwIfAborted()
    try {
      return await (this.#network ??= this.#load(signal ? AbortSignal.any([signal, closed]) : closed))
    } catch (error) {
      this.#network = undefined
      throw error
    }
  }

  /** Frees the network's memory; the next `get` loads it again. */
  async release(): Promise<void> {
    const network = await this.#network?.catch(() => undefined)
    this.#network = undefined
    await network?.close()
  }

  /** Frees the network's memory; later calls of `get` are rejected. */
  async close(): Promise<void> {
    this.#closed.abort(new FluxError('FLUX_CLOSED', 'the pipeline was closed; load it again'))
    await this.release()
  }
}
