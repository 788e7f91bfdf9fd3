import type { FastifyRequest } from 'fastify'
import type { JobImage, JobPreview, JobRequest, JobStatus, ModelState, QueuedJob } from '../queue/queue.js'
import type { A1111Drawing } from './a1111-request.js'
import type { ServerContext } from './context.js'
import { addJob, cancelOnHangUp, endError, imageOf } from './follow.js'

/** A request of A1111's routes that is being answered. */
interface Run {
  /** address of the client */
  client: string
  /** A1111's name of the job */
  name: string
  began: Date
  /** number of images */
  count: number
  /** of them, those of earlier jobs, which were made or skipped */
  before: number
  /** that makes the images now */
  job: QueuedJob
  preview?: JobPreview
  stopped?: 'interrupt' | 'skip'
}

export interface Outcome {
  /** `number`: from 0, those that were skipped included */
  images: { image: JobImage; number: number; file: Buffer }[]
  /** of the image that an interruption left unfinished */
  unfinished?: JobPreview
}

/**
 * The requests of A1111's routes that are being answered, by client: who interrupts, ends no job of others, and nobody sees
 * the previews of others.
 */
export class A1111Runs {
  readonly #context: ServerContext
  readonly #runs = new Set<Run>()

  constructor(context: ServerContext) {
    this.#context = context
  }

  /**
   * Carries out a request.
   *
   * @param gone aborts when the client has gone
   * @returns what was made before an interruption, if there was one
   * @throws {FluxError} as `ImageQueue.add`
   * @throws {HttpError} for a job that failed
   */
  async draw(
    name: string,
    request: FastifyRequest,
    { model, drawing }: { model: ModelState; drawing: A1111Drawing },
    gone: AbortSignal,
  ): Promise<Outcome> {
    const { options, wishes } = drawing
    const { count } = options
    const client = request.ip
    const job = await addJob(this.#context, request, model, { options, wishes })
    const run: Run = { client, name, began: new Date(), count, before: 0, job }
    const images: Outcome['images'] = []
    this.#runs.add(run)
    try {
      for (;;) {
        cancelOnHangUp(gone, run.job, request)
        const made = await this.#follow(run)
        images.push(...made)
        run.before += made.length
        if (run.stopped !== 'skip') break
        // the others become a job of their own
        if (run.before + 1 >= count || gone.aborted) break
        run.before++
        delete run.stopped
        delete run.preview
        run.job = await this.#context.queue.add(
          { model: model.name, options: afterwards(options, run.before), wishes },
          { client },
        )
      }
    } finally {
      this.#runs.delete(run)
    }
    return { images, ...(run.preview && run.stopped ? { unfinished: run.preview } : {}) }
  }

  /** Source: AUTOMATIC1111/stable-diffusion-webui `modules/api/api.py` (`progressapi`), `modules/shared_state.py`. */
  async progress(client: string, withImage: boolean): Promise<object> {
    const current = await this.#current(client)
    if (!current) return { progress: 0, eta_relative: 0, state: IDLE, current_image: null, textinfo: null }
    const { run, status } = current
    const { count, before } = run
    return {
      progress: Math.min(1, 0.01 + (before + status.progress * status.count) / count),
      eta_relative: status.secondsLeft ?? 0,
      state: {
        skipped: run.stopped === 'skip',
        interrupted: run.stopped === 'interrupt',
        stopping_generation: false,
        job: run.name,
        job_count: count,
        job_timestamp: timestamp(run.began),
        job_no: Math.min(count - 1, before + status.images.length),
        sampling_step: status.images.length > status.index ? 0 : status.step,
        sampling_steps: status.steps,
      },
      current_image: (withImage && run.preview?.data) || null,
      textinfo: null,
    }
  }

  /** Ends the client's job, or with 'skip' the image that is being made. */
  async stop(client: string, how: 'interrupt' | 'skip'): Promise<void> {
    const current = await this.#current(client)
    if (!current || current.run.stopped === 'interrupt') return
    current.run.stopped = how
    await current.run.job.cancel()
  }

  /** The client's job that runs, or else the first that waits. */
  async #current(client: string): Promise<{ run: Run; status: JobStatus } | undefined> {
    const own = [...this.#runs].filter((run) => run.client === client)
    const all = await Promise.all(own.map(async (run) => ({ run, status: await run.job.status() })))
    return all.find(({ status }) => status.state === 'running') ?? all[0]
  }

  async #follow(run: Run): Promise<Outcome['images']> {
    const { job } = run
    for await (const event of job.events()) if (event.type === 'step' && event.preview) run.preview = event.preview
    const status = await job.status()
    const isStopped = status.state === 'cancelled' && run.stopped !== undefined
    if (status.state !== 'completed' && !isStopped) throw endError(status)
    const images: Outcome['images'] = []
    for (const image of status.images)
      images.push({ image, number: run.before + image.index, file: await imageOf(job, image.index) })
    return images
  }
}

/** The images of a request that are left after some. Of a variation, the second seed counts up. */
function afterwards(options: A1111Drawing['options'], before: number): JobRequest['options'] {
  const { seed, variation, count } = options
  const next = variation ? { variation: { ...variation, seed: variation.seed + before } } : { seed: seed + before }
  return { ...options, ...next, count: count - before }
}

const IDLE = {
  ...{ skipped: false, interrupted: false, stopping_generation: false, job: '', job_count: 0, job_timestamp: '0' },
  ...{ job_no: 0, sampling_step: 0, sampling_steps: 0 },
}

/** 20261128120000, in local time */
export function timestamp(date: Date): string {
  const parts = [date.getMonth() + 1, date.getDate(), date.getHours(), date.getMinutes(), date.getSeconds()]
  return date.getFullYear() + parts.map((part) => String(part).padStart(2, '0')).join('')
}
