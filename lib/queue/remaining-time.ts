import type { GenerateEvent } from '../jobs/events.js'

/** What the parts of an image take besides its steps, in seconds. */
export interface OtherSeconds {
  text: number
  encode: number
  decode: number
}

/** Predicts when a job will be done, from the time that its steps take and from what the rest of an image took before. */
export class RemainingTime {
  readonly #count: number
  #others: OtherSeconds | undefined
  #stepMs = 0

  /** @param count number of images */
  constructor(count: number) {
    this.#count = count
  }

  /** From now on the time can be known. */
  learn(others: OtherSeconds | undefined): void {
    this.#others = others
  }

  /** Returns the seconds after a step until the last image; null if they cannot be known yet. */
  after({ index, step, steps, ms, reused }: GenerateEvent & { type: 'step' }): number | null {
    // a step that was not evaluated says nothing about the others, and the first one may contain compiling
    if (!reused && (this.#stepMs === 0 || step > 1)) this.#stepMs = step <= 2 ? ms : (this.#stepMs * 2 + ms) / 3
    if (!this.#others) return null
    const { text, encode, decode } = this.#others
    const oneStep = this.#stepMs / 1000
    const further = this.#count - 1 - index
    return (steps - step) * oneStep + decode + further * (text + encode + steps * oneStep + decode)
  }
}
