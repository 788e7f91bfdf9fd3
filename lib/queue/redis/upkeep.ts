import type { ImageStore } from '../image-store.js'
import type { RedisConnection } from './connection.js'

/** milliseconds between two rounds */
const ROUND_MS = 10_000

/** What every server and worker does from time to time: deletes from the store what no job needs any more. */
export class Upkeep {
  readonly #connection: RedisConnection
  readonly #store: ImageStore
  readonly #timer: NodeJS.Timeout
  #isBusy = false

  /** @param more is done in each round as well */
  constructor(connection: RedisConnection, store: ImageStore, more: () => Promise<void>) {
    this.#connection = connection
    this.#store = store
    this.#timer = setInterval(() => void this.#round(more), ROUND_MS).unref()
  }

  /** Deletes images that are due. */
  async sweep(): Promise<void> {
    const { client, keys } = this.#connection
    for (const list of await client.fluxDue(keys.prefix)) {
      await Promise.all((JSON.parse(list) as string[]).map((key) => this.#store.delete(key)))
      await client.zrem(keys.garbage, list)
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #round(more: () => Promise<void>): Promise<void> {
    if (this.#isBusy) return // Redis is away
    this.#isBusy = true
    try {
      await this.sweep()
      await more()
    } catch {
      // the next round tries it again
    } finally {
      this.#isBusy = false
    }
  }
}
