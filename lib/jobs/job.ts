import { randomUUID } from 'node:crypto'
import { onAbort, untilAborted } from '../options/abort.js'
import type { LatentPreview } from '../families/latent-preview.js'
import { EventLog } from './event-log.js'
import type { GenerateEvent, ImageEvent } from './events.js'

/** Generates images and returns the last one as the last event. Rejects with the signal's reason when it is aborted. */
export type Work = (signal: AbortSignal) => AsyncGenerator<GenerateEvent, ImageEvent, undefined>

/** The generation of one image, or of `count` images one after the other. It proceeds at the same speed whether or not anyone reads its events. */
export class Job {
  readonly id: string = randomUUID()
  /**
   * The last event, with the last image. Rejects with the error of the job, with the reason of its cancellation, or with
   * FLUX_CLOSED when the pipeline is closed. An unhandled rejection is ignored.
   */
  readonly result: Promise<ImageEvent>
  readonly #position: () => number
  readonly #count: number
  readonly #controller = new AbortController()
  readonly #log = new EventLog<GenerateEvent & { preview?: LatentPreview }>(({ preview }) => preview?.data.length ?? 0)

  /**
   * @param turn resolves when the work may begin
   * @param position returns the job's position in its queue; 0 or less once its turn has come
   * @param count number of images
   */
  constructor(work: Work, turn: Promise<void>, position: () => number, signal?: AbortSignal, count = 1) {
    this.#count = count
    this.#position = position
    this.result = this.#run(work, turn, signal)
    this.result.catch(() => {})
  }

  /** The number of jobs ahead of it: 0 while it runs and afterwards. */
  get position(): number {
    return Math.max(0, this.#position())
  }

  /** The share of the steps that are done, 0 to 1. Decoding counts as one more step. */
  get progress(): number {
    const last = this.#log.findLast((event) => event.type === 'step' || event.type === 'image')
    if (!last) return 0
    return (last.index + (last.type === 'image' ? 1 : last.step / (last.steps + 1))) / this.#count
  }

  /**
   * Ends a waiting job at once, and a running job within its current step. Does nothing once the job is over.
   *
   * @param reason what `result` rejects with. @default an AbortError
   */
  cancel(reason?: unknown): void {
    if (!this.#log.over) this.#controller.abort(reason)
  }

  /**
   * All events from the first one, even for a late reader. At the end the generator returns, or throws what `result`
   * rejects with. There may be any number of readers. No reader delays the job, and leaving the loop does not end it. A
   * job keeps the latest 32 MiB of previews; a reader that falls far behind misses older previews, but no events.
   */
  async *events(): AsyncGenerator<GenerateEvent, void, undefined> {
    yield* this.#log.read()
    await this.result
  }

  async #run(work: Work, turn: Promise<void>, signal: AbortSignal | undefined): Promise<ImageEvent> {
    const cancel = () => this.cancel(signal!.reason)
    if (signal?.aborted) cancel()
    const unlisten = signal && onAbort(signal, cancel)
    try {
      await untilAborted(turn, this.#controller.signal)
      const events = work(this.#controller.signal)
      for (;;) {
        const { value, done } = await events.next()
        this.#log.append(value)
        if (done) return value
      }
    } finally {
      unlisten?.()
      this.#log.end()
    }
  }
}
