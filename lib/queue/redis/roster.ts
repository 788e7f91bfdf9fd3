import type { ModelDescription, QueueCounts } from '../queue.js'
import type { RedisConnection } from './connection.js'

/** a worker that has not announced itself for this time is gone, in milliseconds */
export const ROSTER_PATIENCE_MS = 12_000

/** What a worker is doing. */
export interface WorkerState {
  host: string
  /** names of the models in memory */
  loaded: string[]
  devices: { name: string; memoryFree: number; memoryTotal: number }[]
}

/** What a worker can carry out. */
export interface WorkerOffer {
  models: ModelDescription[]
  /** names of LoRAs */
  loras: string[]
  /** names of networks that enlarge images */
  upscalers: string[]
}

interface Present {
  states: WorkerState[]
  offers: WorkerOffer[]
}

/** a reading is used again for this time, in milliseconds */
const FRESH_MS = 1000

/** The workers that have announced themselves. */
export class Roster {
  readonly #connection: Pick<RedisConnection, 'client' | 'keys'>
  #last: { at: number; present: Promise<Present> } | undefined

  constructor(connection: Pick<RedisConnection, 'client' | 'keys'>) {
    this.#connection = connection
  }

  /** Those that one worker offers together. */
  async offers(isFresh = false): Promise<WorkerOffer[]> {
    return (await this.#read(isFresh)).offers
  }

  async states(): Promise<WorkerState[]> {
    return (await this.#read(false)).states
  }

  async count(): Promise<QueueCounts['workers']> {
    return (await this.#read(true)).states.length
  }

  #read(isFresh: boolean): Promise<Present> {
    if (isFresh || !this.#last || Date.now() - this.#last.at > FRESH_MS) {
      const present = this.#fetch()
      this.#last = { at: Date.now(), present }
      present.catch(() => (this.#last = undefined))
    }
    return this.#last.present
  }

  async #fetch(): Promise<Present> {
    const { client, keys } = this.#connection
    const ids = await client.smembers(keys.workers)
    if (ids.length === 0) return { states: [], offers: [] }
    const [states, offers] = await Promise.all([
      client.mget(ids.map((id) => keys.worker(id))),
      client.mget(ids.map((id) => keys.offer(id))),
    ])
    const gone = ids.filter((_, i) => states[i] === null && offers[i] === null)
    if (gone.length > 0) await client.srem(keys.workers, ...gone)
    return { states: parsed(states), offers: parsed(offers) }
  }
}

function parsed<T>(texts: (string | null)[]): T[] {
  return texts.flatMap((text) => (text === null ? [] : [JSON.parse(text) as T]))
}
