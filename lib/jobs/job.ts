import { randomUUID } from 'node:crypto'
import { onAbort, untilAborted } from '../options/abort.js'
import type { GenerateEvent, ImageEvent } from './events.js'

/** Makes one image and returns it as the last event. Rejects with the signal's reason when it is aborted. */
export type Work = (signal: AbortSignal) => AsyncGenerator<Exclude<GenerateEvent, ImageEvent>, ImageEvent, undefined>

/** of the previews that a job keeps for its readers; at least the latest one is kept */
const MAX_PREVIEW_BYTES = 32 * 2 ** 20

/** One image in the making. It is made whether or not anybody reads its events, and at the same speed. */
export class Job {
  readonly id: string = randomUUID()
  /**
   * The last event, with the image. Rejects with what made the job fail, the reason of its cancelling, or FLUX_CLOSED when the pipeline is closed.
   * A rejection that nobody handles is ignored.
   */
  readonly result: Promise<ImageEvent>
  readonly #position: () => number
  readonly #controller = new AbortController()
  /** from the first on; old previews are taken out of them */
  readonly #events: GenerateEvent[] = []
  /** indices of the events that have previews, and the bytes of these */
  readonly #shown: number[] = []
  #previewBytes = 0
  #over = false
  #news!: Promise<void>
  #announce!: () => void

  /**
   * @param turn resolves when the work may begin
   * @param position of the job in its queue; 0 or less once its turn has come
   */
  constructor(work: Work, turn: Promise<void>, position: () => number, signal?: AbortSignal) {
    this.#position = position
    this.#nextNews()
    this.result = this.#run(work, turn, signal)
    this.result.catch(() => {})
  }

  /** How many jobs come before it: 0 while it runs and afterwards. */
  get position(): number {
    return Math.max(0, this.#position())
  }

  /** Share of the steps that are done, 0 to 1, where decoding counts as one step more. */
  get progress(): number {
    const last = this.#events.findLast(({ type }) => type === 'step' || type === 'image')
    return last?.type === 'step' ? last.step / (last.steps + 1) : last ? 1 : 0
  }

  /** Ends a job that waits at once, one that runs within its step. Does nothing once it is over. @param reason what `result` rejects with. @default an AbortError */
  cancel(reason?: unknown): void {
    if (!this.#over) this.#controller.abort(reason)
  }

  /**
   * All events from the first on, however late the reader comes; then it ends, or throws what `result` rejects with. There may be any number of
   * readers. None of them delays the job, and leaving the loop does not end it. A reader that falls far behind misses previews, nothing else: a
   * job keeps 32 MiB of them, the latest.
   */
  async *events(): AsyncGenerator<GenerateEvent, void, undefined> {
    for (let i = 0; ; i++) {
      while (i === this.#events.length && !this.#over) await this.#news
      const event = this.#events[i]
      if (!event) break
      yield event
    }
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
        this.#add(value)
        if (done) return value
      }
    } finally {
      unlisten?.()
      this.#over = true
      this.#announce()
    }
  }

  #add(event: GenerateEvent): void {
    const bytes = (index: number): number => {
      const event = this.#events[index]
      return event?.type === 'step' && event.preview ? event.preview.data.length : 0
    }
    const index = this.#events.push(event) - 1
    if (bytes(index) > 0) {
      this.#shown.push(index)
      this.#previewBytes += bytes(index)
    }
    while (this.#previewBytes > MAX_PREVIEW_BYTES && this.#shown.length > 1) {
      const oldest = this.#shown.shift()!
      this.#previewBytes -= bytes(oldest)
      const { preview: _, ...rest } = this.#events[oldest] as GenerateEvent & { type: 'step' }
      this.#events[oldest] = rest
    }
    const announce = this.#announce
    this.#nextNews()
    announce()
  }

  #nextNews(): void {
    this.#news = new Promise((resolve) => (this.#announce = resolve))
  }
}
