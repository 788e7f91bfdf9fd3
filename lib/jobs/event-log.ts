import { untilAborted } from '../options/abort.js'

/** size of the previews that a log keeps for its readers; at least the latest preview is kept */
const MAX_PREVIEW_BYTES = 32 * 2 ** 20

/**
 * The events of a job, from the first one, for any number of readers. No reader delays the writer. Old previews are
 * removed from their events; the events stay.
 */
export class EventLog<E extends object & { preview?: unknown }> {
  readonly #events: E[] = []
  readonly #previewBytes: (event: E) => number
  /** indices of the events that have previews, and the total bytes of these previews */
  readonly #shown: number[] = []
  #bytes = 0
  #over = false
  #news!: Promise<void>
  #announce!: () => void

  /** @param previewBytes the size of an event's preview, 0 if it has none */
  constructor(previewBytes: (event: E) => number) {
    this.#previewBytes = previewBytes
    this.#nextNews()
  }

  get over(): boolean {
    return this.#over
  }

  get length(): number {
    return this.#events.length
  }

  findLast<T extends E>(matches: (event: E) => event is T): T | undefined {
    return this.#events.findLast(matches)
  }

  append(event: E): void {
    const index = this.#events.push(event) - 1
    const bytes = this.#previewBytes(event)
    if (bytes > 0) {
      this.#shown.push(index)
      this.#bytes += bytes
    }
    while (this.#bytes > MAX_PREVIEW_BYTES && this.#shown.length > 1) {
      const oldest = this.#shown.shift()!
      this.#bytes -= this.#previewBytes(this.#events[oldest]!)
      this.#events[oldest] = withoutPreview(this.#events[oldest]!)
    }
    const announce = this.#announce
    this.#nextNews()
    announce()
  }

  /** Removes all previews, which only those need that follow the job while it runs. */
  forgetPreviews(): void {
    for (const index of this.#shown.splice(0)) this.#events[index] = withoutPreview(this.#events[index]!)
    this.#bytes = 0
  }

  /** No event follows: readers come to the end. */
  end(): void {
    this.#over = true
    this.#announce()
  }

  /** The events from number `from`, counted from 0, until the end. */
  async *read(from = 0, signal?: AbortSignal): AsyncGenerator<E, void, undefined> {
    for (let i = from; ; i++) {
      while (i >= this.#events.length && !this.#over) await untilAborted(this.#news, signal)
      const event = this.#events[i]
      if (!event) return
      yield event
    }
  }

  #nextNews(): void {
    this.#news = new Promise((resolve) => (this.#announce = resolve))
  }
}

function withoutPreview<E extends object & { preview?: unknown }>({ preview: _, ...rest }: E): E {
  return rest as E
}
