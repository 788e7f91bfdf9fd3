import type { Conditioning } from '../families/conditioning.js'

/** 8 MB each at FLUX.1's full size. */
const REMEMBERED = 4

/** The most recently used conditionings, so that one prompt with many seeds is encoded once. */
export class PromptCache {
  /** in the order of use: the first one is the least recently used */
  readonly #remembered = new Map<string, Conditioning>()

  /**
   * @param keys each covers everything that a conditioning depends on
   * @param encode encodes what is not remembered, by its index among the keys; not called if there is nothing
   */
  async get(
    keys: readonly string[],
    encode: (missing: readonly number[]) => Promise<Conditioning[]>,
  ): Promise<Conditioning[]> {
    const missing = keys.flatMap((key, i) => (this.#remembered.has(key) || keys.indexOf(key) < i ? [] : [i]))
    const encoded = missing.length > 0 ? await encode(missing) : []
    const conditionings = keys.map((key) => this.#remembered.get(key) ?? encoded[missing.indexOf(keys.indexOf(key))]!)
    for (const [i, key] of keys.entries()) {
      this.#remembered.delete(key)
      this.#remembered.set(key, conditionings[i]!)
    }
    while (this.#remembered.size > REMEMBERED) this.#remembered.delete(this.#remembered.keys().next().value!)
    return conditionings
  }
}
