import type { RedisConnection } from './connection.js'

/** Says which jobs have new events. */
export class News {
  readonly #followers = new Map<string, Set<() => void>>()

  /** @param onEnd called with jobs that have ended; without an id when some may have been missed */
  static async listen(connection: RedisConnection, onEnd: (id: string | undefined) => void): Promise<News> {
    const news = new News()
    await connection.listen([connection.keys.news], (_, message) => {
      const [id, isLast] = message.split(' ')
      if (!id) for (const job of news.#followers.keys()) news.#wake(job)
      else news.#wake(id)
      if (!id || isLast) onEnd(id || undefined)
    })
    return news
  }

  /** Resolves at the next news of a job, from this call on; `ignore` has to be called in any case. */
  of(id: string): { arrived: Promise<void>; ignore(): void } {
    const followers = this.#followers.get(id) ?? new Set()
    this.#followers.set(id, followers)
    let wake = () => {}
    const arrived = new Promise<void>((resolve) => (wake = resolve))
    followers.add(wake)
    const ignore = () => {
      if (followers.delete(wake) && followers.size === 0 && this.#followers.get(id) === followers)
        this.#followers.delete(id)
    }
    return { arrived, ignore }
  }

  #wake(id: string): void {
    for (const wake of this.#followers.get(id) ?? []) wake()
  }
}
