/** bytes of the previews of one job that stay readable */
const MOST_BYTES = 8 * 2 ** 20

/** Says which previews of a job have to go when one is added: the oldest, but never the latest. */
export class PreviewBudget {
  readonly #kept: { number: number; bytes: number }[] = []
  #bytes = 0

  /** @returns numbers of the events that lose their preview */
  add(number: number, bytes: number): number[] {
    this.#kept.push({ number, bytes })
    this.#bytes += bytes
    const dropped: number[] = []
    while (this.#bytes > MOST_BYTES && this.#kept.length > 1) {
      const oldest = this.#kept.shift()!
      this.#bytes -= oldest.bytes
      dropped.push(oldest.number)
    }
    return dropped
  }
}
