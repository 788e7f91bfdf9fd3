import { Job, type Work } from './job.js'

/** Runs jobs one at a time, in the order in which they were added. */
export class JobQueue {
  /** in the order of the queue: the first one runs, the others wait */
  readonly #jobs = new Set<Job>()
  #last: Promise<void> = Promise.resolve()
  #closed: Error | undefined

  /** @returns a job, which is already cancelled after `close()` or if the signal was already aborted */
  add(work: Work, signal?: AbortSignal, count = 1): Job {
    const job: Job = new Job(work, this.#last, () => [...this.#jobs].indexOf(job), signal, count)
    this.#jobs.add(job)
    if (this.#closed) job.cancel(this.#closed)
    const leave = () => void this.#jobs.delete(job)
    const over = job.result.then(leave, leave)
    // a job that is cancelled while it waits ends before the jobs ahead of it
    this.#last = this.#last.then(() => over)
    return job
  }

  /** Cancels running, waiting and later jobs, and waits until none is running. */
  async close(reason: Error): Promise<void> {
    this.#closed = reason
    for (const job of this.#jobs) job.cancel(reason)
    await this.#last
  }
}
