import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ImageFormat } from '../images/encode.js'
import type { JobImage, JobPreview, ModelState, QueuedJob } from '../queue/queue.js'
import type { ServerContext } from './context.js'
import { errorBody } from './errors.js'
import { addJob, cancelOnHangUp, completed, endError, hangUp, imageOf } from './follow.js'
import { fullSize } from './full-size.js'
import { warn } from './job-routes.js'
import { EditSchema, GenerationSchema, VariationSchema, type GenerationBody } from './openai-schema.js'
import { toDrawing, toEdit, toVariation, type Drawing } from './openai-request.js'
import { unknownNames } from './request-schema.js'
import { sendEvents, type ServerEvent } from './sse.js'

type Size = { width: number; height: number }
type Body = Omit<GenerationBody, 'prompt'>

/** OpenAI's image routes, with our own options at top level. */
export const openaiRoutes: FastifyPluginAsyncTypebox<{ context: ServerContext }> = async (app, { context }) => {
  app.post(
    '/v1/images/generations',
    { schema: { tags: ['openai'], summary: 'Makes images from a prompt', body: GenerationSchema } },
    async (request, reply) => {
      const { body } = request
      const { model, note } = await context.model(body.model)
      warn(reply, note, notesOn(request, GenerationSchema))
      return answer(request, reply, { model, body, kind: 'image_generation', job: toDrawing(body, body.prompt) })
    },
  )

  app.post(
    '/v1/images/edits',
    {
      schema: {
        tags: ['openai'],
        summary: 'Makes images from images: a form with image (or several image[]) and mask, or JSON',
        body: EditSchema,
      },
    },
    async (request, reply) => {
      const { body } = request
      const { model, note } = await context.model(body.model)
      warn(reply, note, notesOn(request, EditSchema))
      const job = await toEdit(context, request, body, model)
      return answer(request, reply, { model, body, kind: 'image_edit', job })
    },
  )

  app.post(
    '/v1/images/variations',
    { schema: { tags: ['openai'], summary: 'Makes images like an image, with Redux', body: VariationSchema } },
    async (request, reply) => {
      const { body } = request
      const { model, note } = await context.model(body.model)
      warn(reply, note, notesOn(request, VariationSchema))
      const job = await toVariation(context, request, body, model)
      return answer(request, reply, { model, body, kind: 'image_generation', job })
    },
  )

  async function answer(
    request: FastifyRequest,
    reply: FastifyReply,
    { model, body, kind, job: { options, wishes = {}, size = model.defaults } }: Call,
  ): Promise<object | undefined> {
    const gone = hangUp(reply)
    const job = await addJob(context, request, model, { options, wishes }, body.priority)
    cancelOnHangUp(gone, job, request, body.on_disconnect)
    reply.header('x-ggflux-job', job.id)
    if (body.stream) {
      const { width = size.width, height = size.height } = options
      await sendEvents(reply, streamed(job, kind, body, { width, height }), context.settings.limits.slowClient)
      return undefined
    }
    const { images } = await completed(job)
    const base = `${request.protocol}://${request.host}/v1/jobs/${job.id}/images/`
    const data: object[] = []
    for (const { index, seed } of images)
      data.push(
        body.response_format === 'url'
          ? { url: base + index, seed }
          : { b64_json: (await imageOf(job, index)).toString('base64'), seed },
      )
    return { created: Math.floor(Date.now() / 1000), data, ...described(body, images[0]), usage: NO_USAGE }
  }
}

interface Call {
  model: ModelState
  body: Body
  kind: 'image_generation' | 'image_edit'
  job: Drawing
}

/** tokens are what OpenAI charges for, and nothing is charged here */
const NO_USAGE = {
  input_tokens: 0,
  output_tokens: 0,
  total_tokens: 0,
  input_tokens_details: { image_tokens: 0, text_tokens: 0 },
}

/** What is ignored in a request. */
function notesOn({ body, uploads }: FastifyRequest, schema: { properties: object }): string[] {
  const unknown = unknownNames(body as object, schema, uploads)
  return (body as Body).background === 'transparent' ? [...unknown, 'background transparent'] : unknown
}

function described({ quality = 'auto' }: Body, image: JobImage | undefined): object {
  const known = { auto: 'high', standard: 'medium', hd: 'high' } as Record<string, string>
  return {
    background: 'opaque',
    output_format: image?.format ?? 'png',
    quality: known[quality] ?? quality,
    size: image ? `${image.width}x${image.height}` : 'auto',
  }
}

/** The events that OpenAI's SDK knows, and `error` for a job that failed after the stream had begun. */
async function* streamed(job: QueuedJob, kind: Call['kind'], body: Body, size: Size): AsyncGenerator<ServerEvent> {
  const most = body.partial_images ?? 0
  let shown = 0
  let latest: { preview: JobPreview; index: number } | undefined
  for await (const event of job.events()) {
    if (event.type === 'step' && event.preview) {
      if (event.index !== latest?.index) shown = 0
      latest = { preview: event.preview, index: event.index }
      // evenly over the steps, the last one left out: it looks like the image
      if (shown < most && event.step >= ((shown + 1) * event.steps) / (most + 1)) {
        const data = await partialImage(event.preview, body, size)
        yield named(`${kind}.partial_image`, { ...data, partial_image_index: shown++ })
      }
    } else if (event.type === 'image') {
      const b64_json = (await imageOf(job, event.index)).toString('base64')
      const details = { created_at: Math.floor(Date.now() / 1000), ...described(body, event), seed: event.seed }
      yield named(`${kind}.completed`, { b64_json, ...details, usage: NO_USAGE })
    }
  }
  const status = await job.status()
  if (status.state === 'completed') return
  yield { event: 'error', data: { type: 'error', error: errorBody(endError(status)) } }
}

const named = (type: string, data: object): ServerEvent => ({ event: type, data: { type, ...data } })

/** A preview in the requested format, as large as the image will be. */
async function partialImage(preview: JobPreview, { output_format = 'png', quality }: Body, { width, height }: Size) {
  const file = await fullSize(preview, { width, height, format: output_format as ImageFormat })
  const details = described({ ...(quality ? { quality } : {}) }, undefined)
  const created_at = Math.floor(Date.now() / 1000)
  return { b64_json: file.toString('base64'), created_at, ...details, output_format, size: `${width}x${height}` }
}
