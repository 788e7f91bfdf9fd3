import type { Conditioning } from '../families/conditioning.js'

/** 8 MB each at FLUX.1's full size. */
const REMEMBERED = 4

/** The most recently used conditionings, so that one prompt with many seeds is encoded once. */
export class PromptCache {
  /** in the order of use: the first one is the least recently used */
  readonly #remembered = new Map<string, Conditioning>()

  /** @param key covers everything that the conditioning depends on */
  async get(key: string, encode: () => Promise<Conditioning>): Promise<Conditioning> {
    const conditioning = this.#remembered.get(key) ?? (await encode())
    this.#remembered.delete(key)
    this.#remembered.set(key, conditioning)
    if (this.#remembered.size > REMEMBERED) this.#remembered.delete(this.#remembered.keys().next().value!)
    return conditioning
  }
}
