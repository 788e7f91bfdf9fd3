import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isOver } from '../queue/job-status.js'
import { shuttingDown } from '../queue/refusals.js'
import type { JobRequest, JobStatus, ModelState, QueuedJob } from '../queue/queue.js'
import type { ServerContext } from './context.js'
import { requireWithinLimits } from './limits.js'
import { HttpError, jobError, toHttpError } from './errors.js'

/**
 * Aborts when the client has gone before it got its answer. `request.signal` and the request's 'close' come as soon as
 * the body is read, so the response is watched.
 */
export function hangUp({ raw }: FastifyReply): AbortSignal {
  const controller = new AbortController()
  // it may have gone while its request was read
  if (raw.destroyed) controller.abort()
  raw.once('close', () => {
    if (!raw.writableFinished) controller.abort()
  })
  return controller.signal
}

/**
 * Adds a job for a request, or finds the one that the same `Idempotency-Key` got before.
 *
 * @throws {FluxError} as `ImageQueue.add`; FLUX_BAD_OPTION for what one request may not take
 */
export async function addJob(
  context: ServerContext,
  request: FastifyRequest,
  model: ModelState,
  asked: Omit<JobRequest, 'model'>,
  priority?: number,
): Promise<QueuedJob> {
  const { queue, settings } = context
  const job = { model: model.name, ...asked }
  await requireWithinLimits(context, job, model)
  const client = request.ip
  const key = request.headers['idempotency-key']
  const added = await queue.add(job, {
    client,
    ...(priority === undefined ? {} : { priority }),
    ...(typeof key === 'string' && key !== ''
      ? { id: uuidOf(`${client} ${key}`), fingerprint: fingerprintOf(request) }
      : {}),
  })
  const { prompt } = job.options
  request.log.info({ job: added.id, model: job.model, ...(settings.logPrompts ? { prompt } : {}) }, 'job')
  return added
}

/** The id of a job by its key: a name-based UUID. */
function uuidOf(text: string): string {
  const hex = hash(text).toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `a${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  )
}

function fingerprintOf({ method, url, body, uploads = {} }: FastifyRequest): string {
  const files = Object.entries(uploads).flatMap(([name, files]) =>
    files.map((file) => [name, hash(file).toString('hex')]),
  )
  return hash(JSON.stringify([method, url, body, files])).toString('base64url')
}

const hash = (data: string | Buffer): Buffer => createHash('sha256').update(data).digest()

/**
 * Cancels a job when its client hangs up, unless the client asked otherwise. One with an `Idempotency-Key` means to ask
 * again.
 */
export function cancelOnHangUp(
  gone: AbortSignal,
  job: QueuedJob,
  request: FastifyRequest,
  onDisconnect: 'cancel' | 'continue' = request.headers['idempotency-key'] ? 'continue' : 'cancel',
): void {
  if (onDisconnect === 'continue') return
  const cancel = () =>
    void job.cancel().catch((error: unknown) => request.log.error({ err: error }, 'cancelling failed'))
  if (gone.aborted) cancel()
  else gone.addEventListener('abort', cancel, { once: true })
}

/**
 * Waits until a job has made all of its images.
 *
 * @throws {HttpError} if it ended otherwise
 */
export async function completed(job: QueuedJob): Promise<JobStatus> {
  for await (const event of job.events()) if (event.type === 'completed') break
  const status = await job.status()
  if (status.state !== 'completed') throw endError(status)
  return status
}

/** The error of a job that ended without all of its images, or whose events ended because the server is closed. */
export function endError(status: JobStatus): HttpError {
  return isOver(status) ? jobError(status) : toHttpError(shuttingDown())
}

/**
 * The file of an image that a job has made.
 *
 * @throws {HttpError} 404 once it has been deleted
 */
export async function imageOf(job: QueuedJob, index: number): Promise<Buffer> {
  const image = await job.image(index)
  if (!image)
    throw new HttpError(
      404,
      'FLUX_NOT_FOUND',
      `image ${index} of job ${job.id} does not exist, or no longer; with workers, all need the same folder (--results)`,
    )
  return image
}
