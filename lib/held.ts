import { FluxError } from './errors.js'
import type { NetworkOptions } from './network.js'

interface Closable {
  close(): Promise<void>
}

/** A network that is loaded when it is first needed, and may be released and loaded again. One user at a time. */
export class Held<N extends Closable> {
  readonly #load: (options: Pick<NetworkOptions, 'signal' | 'onProgress'>) => Promise<N>
  #network: N | undefined
  #closed = false

  constructor(load: (options: Pick<NetworkOptions, 'signal' | 'onProgress'>) => Promise<N>) {
    this.#load = load
  }

  get loaded(): N | undefined {
    return this.#network
  }

  async get(options: Pick<NetworkOptions, 'signal' | 'onProgress'> = {}): Promise<N> {
    this.#refuseWhenClosed()
    if (!this.#network) {
      const network = await this.#load(options)
      if (this.#closed) await network.close()
      this.#refuseWhenClosed()
      this.#network = network
    }
    return this.#network
  }

  /** Frees the network's memory; the next `get` loads it again. */
  async release(): Promise<void> {
    const network = this.#network
    this.#network = undefined
    await network?.close()
  }

  /** Frees the network's memory, and refuses whoever asks for it later. */
  async close(): Promise<void> {
    this.#closed = true
    await this.release()
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new FluxError('FLUX_CLOSED', 'the pipeline was closed; load it again')
  }
}
