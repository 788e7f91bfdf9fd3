import type { Estimate } from '../cost/estimate.js'
import type { GenerateEvent } from '../jobs/events.js'

/** Predicts when a job will be done: from an estimate at first, then from the time that its steps take. */
export class RemainingTime {
  readonly #count: number
  readonly #seconds: NonNullable<Estimate['seconds']> | undefined
  #stepMs = 0

  /** @param count number of images */
  constructor(count: number, { seconds }: Pick<Estimate, 'seconds'>) {
    this.#count = count
    this.#seconds = seconds
  }

  /** Returns the seconds after a step until the last image; null if they cannot be known yet. */
  after({ index, step, steps, ms, reused }: GenerateEvent & { type: 'step' }): number | null {
    // a step that was not evaluated says nothing about the others, and the first one may contain compiling
    if (!reused && (this.#stepMs === 0 || step > 1)) this.#stepMs = step <= 2 ? ms : (this.#stepMs * 2 + ms) / 3
    if (!this.#seconds) return null
    const { text, encode, decode } = this.#seconds
    const oneStep = this.#stepMs / 1000
    const further = this.#count - 1 - index
    return (steps - step) * oneStep + decode + further * (text + encode + steps * oneStep + decode)
  }
}
