import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { JobEvent, JobImage, JobStatus, QueuedJob } from '../queue/queue.js'
import type { ServerContext } from './context.js'
import { HttpError } from './errors.js'
import { addJob, hangUp, imageOf } from './follow.js'
import { toDrawOptions } from './image-request.js'
import { ImageRequestSchema, unknownNames } from './request-schema.js'
import { sendEvents, type ServerEvent } from './sse.js'
import { toWire } from './wire.js'

const JobParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 100 }) })

/** milliseconds for a client to follow its job again, before a job that ends with its client is cancelled */
const GRACE_MS = 5000

/** Our own API: requests become jobs, whose events can be followed and which can be cancelled by id. */
export const jobRoutes: FastifyPluginAsyncTypebox<{ context: ServerContext }> = async (app, { context }) => {
  const { queue } = context
  /** jobs that end when nobody follows them any more, with the number of their followers */
  const followers = new Map<string, number>()

  app.post(
    '/v1/jobs',
    { schema: { tags: ['jobs'], summary: 'Adds a request to the queue', body: ImageRequestSchema } },
    async (request, reply) => {
      const { body } = request
      const { model, note } = await context.model(body.model)
      const job = await addJob(
        context,
        request,
        model,
        { options: await toDrawOptions(context, body, request.uploads) },
        body.priority,
      )
      if (body.on_disconnect === 'cancel' && !followers.has(job.id)) {
        followers.set(job.id, 0)
        expectFollower(job)
      }
      const ignored = unknownNames(body, ImageRequestSchema, request.uploads)
      reply.status(202).header('location', `/v1/jobs/${job.id}`)
      warn(reply, note, ignored)
      return jobBody(await job.status())
    },
  )

  app.get(
    '/v1/jobs/:id',
    { schema: { tags: ['jobs'], summary: 'How far a job is', params: JobParams } },
    async (request) => jobBody(await (await find(request.params.id)).status()),
  )

  app.delete(
    '/v1/jobs/:id',
    { schema: { tags: ['jobs'], summary: 'Cancels a job, waiting or running', params: JobParams } },
    async (request) => {
      const job = await find(request.params.id)
      await job.cancel()
      return jobBody(await job.status())
    },
  )

  app.get(
    '/v1/jobs/:id/events',
    {
      schema: {
        tags: ['jobs'],
        summary: 'Follows a job: server-sent events until it is over',
        description: 'With the header Last-Event-ID, or `after`, the events after that one.',
        params: JobParams,
        querystring: Type.Object({ after: Type.Optional(Type.Integer({ minimum: 0 })) }),
      },
    },
    async (request, reply) => {
      const job = await find(request.params.id)
      const text = String(request.headers['last-event-id'] ?? request.query.after ?? 0)
      const last = Number(text)
      if (!/^\d+$/.test(text) || !Number.isSafeInteger(last))
        throw new HttpError(400, 'FLUX_BAD_OPTION', 'Last-Event-ID is not the number of an event', 'after')
      const gone = hangUp(reply)
      const followed = followers.get(job.id)
      if (followed !== undefined) followers.set(job.id, followed + 1)
      try {
        await sendEvents(reply, serverEvents(job, last, gone), context.settings.limits.slowClient)
      } catch (error) {
        if (!gone.aborted) throw error
      } finally {
        if (followed !== undefined) {
          followers.set(job.id, followers.get(job.id)! - 1)
          expectFollower(job)
        }
      }
    },
  )

  app.get(
    '/v1/jobs/:id/images/:index',
    {
      schema: {
        tags: ['jobs'],
        summary: 'The file of an image that was made',
        params: Type.Object({ ...JobParams.properties, index: Type.Integer({ minimum: 0, maximum: 1000 }) }),
      },
    },
    async (request, reply) => {
      const job = await find(request.params.id)
      const { images } = await job.status()
      const image = await imageOf(job, request.params.index)
      const { format = 'png' } = images.find(({ index }) => index === request.params.index) ?? {}
      return reply.type(`image/${format}`).header('cache-control', 'private, max-age=3600, immutable').send(image)
    },
  )

  async function find(id: string): Promise<QueuedJob> {
    const job = await queue.get(id)
    if (!job) throw new HttpError(404, 'FLUX_NOT_FOUND', `there is no job ${id}, or it ended too long ago`, 'id')
    return job
  }

  function expectFollower(job: QueuedJob): void {
    setTimeout(() => {
      if (followers.get(job.id) !== 0) return
      followers.delete(job.id)
      job.cancel().catch((error: unknown) => app.log.error({ err: error }, 'cancelling failed'))
    }, GRACE_MS).unref()
  }
}

/** Names what was ignored or replaced in a header, which no client takes for an error. */
export function warn(
  reply: { header(name: string, value: string): unknown },
  note: string | undefined,
  ignored: string[],
) {
  const shown = ignored.slice(0, 20).map((name) => name.slice(0, 50).replace(/[^\w.-]/g, '?'))
  const parts = [note, shown.length > 0 ? `ignored: ${shown.join(', ')}` : undefined].filter(
    (part) => part !== undefined,
  )
  // clients refuse long headers
  const text = parts.join('; ').slice(0, 2000)
  if (text !== '') reply.header('x-ggflux-warning', text.replace(/[^\x20-\x7e]/g, '?'))
}

function imageBody(id: string, image: JobImage): object {
  return { ...(toWire(image) as object), url: `/v1/jobs/${id}/images/${image.index}` }
}

export function jobBody({ createdAt, images, lastEvent: _, ...status }: JobStatus): object {
  return {
    object: 'job',
    ...(toWire(status) as object),
    created_at: Math.floor(createdAt / 1000),
    images: images.map((image) => imageBody(status.id, image)),
  }
}

async function* serverEvents(job: QueuedJob, after: number, gone: AbortSignal): AsyncGenerator<ServerEvent> {
  for await (const event of job.events(after, gone)) {
    const { id, type, ...data } = event
    yield { id, event: type, ...dataOf(job.id, event, data) }
  }
}

function dataOf(id: string, event: JobEvent, data: object): { data: object; brief?: object } {
  if (event.type === 'image') {
    const { id: _, type: _1, ...image } = event
    return { data: imageBody(id, image) }
  }
  if (event.type !== 'step' || !event.preview) return { data: toWire(data) as object }
  const { preview: _, ...brief } = data as { preview: unknown }
  return { data: toWire(data) as object, brief: toWire(brief) as object }
}
