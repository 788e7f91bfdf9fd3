import { Job, type Work } from './job.js'

/** Runs jobs one at a time, in the order of asking. */
export class JobQueue {
  /** in their order: the first runs, the others wait */
  readonly #jobs = new Set<Job>()
  #last: Promise<void> = Promise.resolve()
  #closed: Error | undefined

  /** @returns a job that is cancelled already after `close()`, or where the signal was aborted before */
  add(work: Work, signal?: AbortSignal): Job {
    const job: Job = new Job(work, this.#last, () => [...this.#jobs].indexOf(job), signal)
    this.#jobs.add(job)
    if (this.#closed) job.cancel(this.#closed)
    const leave = () => void this.#jobs.delete(job)
    const over = job.result.then(leave, leave)
    // one that is cancelled while it waits is over before those in front of it
    this.#last = this.#last.then(() => over)
    return job
  }

  /** Cancels what runs and what waits or comes later, and waits until nothing runs any more. */
  async close(reason: Error): Promise<void> {
    this.#closed = reason
    for (const job of this.#jobs) job.cancel(reason)
    await this.#last
  }
}
