import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { ModelState } from '../queue/queue.js'
import { a1111Answer, sendNull } from './a1111-answer.js'
import { a1111Lists } from './a1111-lists.js'
import { A1111Options } from './a1111-options.js'
import { toImageToImage, toTextToImage, type A1111Drawing } from './a1111-request.js'
import { A1111Runs } from './a1111-runs.js'
import { ImageToImageSchema, TextToImageSchema, type ImageToImageBody, type TextToImageBody } from './a1111-schema.js'
import type { ServerContext } from './context.js'
import { hangUp } from './follow.js'
import { warn } from './job-routes.js'
import { unknownNames } from './request-schema.js'

const TAGS = ['a1111']

/**
 * The routes of A1111's API that clients of image servers call. Source: AUTOMATIC1111/stable-diffusion-webui
 * `modules/api/api.py`.
 */
export const a1111Routes: FastifyPluginAsyncTypebox<{ context: ServerContext }> = async (app, { context }) => {
  const runs = new A1111Runs(context)
  const options = new A1111Options(context.defaultModel)

  app.post(
    '/sdapi/v1/txt2img',
    { schema: { tags: TAGS, summary: 'Makes images from a prompt', body: TextToImageSchema } },
    async (request, reply) => {
      const { model, note } = await modelOf(request.body)
      const drawing = await toTextToImage(context, request.body, model)
      return answer(request, reply, { name: 'scripts_txt2img', model, note, drawing, schema: TextToImageSchema })
    },
  )

  app.post(
    '/sdapi/v1/img2img',
    { schema: { tags: TAGS, summary: 'Makes images from an image, or repaints it', body: ImageToImageSchema } },
    async (request, reply) => {
      const { model, note } = await modelOf(request.body)
      const drawing = await toImageToImage(context, request.body, model)
      return answer(request, reply, { name: 'scripts_img2img', model, note, drawing, schema: ImageToImageSchema })
    },
  )

  app.get('/sdapi/v1/options', { schema: { tags: TAGS, summary: 'The options' } }, async () => options.all)

  app.post(
    '/sdapi/v1/options',
    {
      schema: {
        tags: TAGS,
        summary: 'Sets options; sd_model_checkpoint is the model of later requests of these routes',
        body: Type.Object({ sd_model_checkpoint: Type.Optional(Type.String()) }),
      },
    },
    async (request, reply) => {
      const { sd_model_checkpoint: title } = request.body
      options.set(request.body, title ? (await context.model(nameOf(title))).model.name : undefined)
      return sendNull(reply)
    },
  )

  app.get(
    '/sdapi/v1/progress',
    {
      schema: {
        tags: TAGS,
        summary: "How far the client's job is",
        querystring: Type.Object({ skip_current_image: Type.Optional(Type.String()) }),
      },
    },
    async (request) => {
      const { skip_current_image = 'false' } = request.query
      return runs.progress(request.ip, !/^(true|1|on|yes)$/i.test(skip_current_image))
    },
  )

  app.post(
    '/sdapi/v1/interrupt',
    {
      schema: {
        tags: TAGS,
        summary: "Ends the client's job, which answers with the images that it has made",
        description:
          'If there is none yet, with the unfinished one. The job is that of the same address, which runs or else waits.',
      },
    },
    async (request) => {
      await runs.stop(request.ip, 'interrupt')
      return {}
    },
  )

  app.post(
    '/sdapi/v1/skip',
    {
      schema: {
        tags: TAGS,
        summary: 'Ends the image that is being made, and makes the next',
        description:
          'It is left out, and those after it join the queue again. Of the last image it is an interruption.',
      },
    },
    async (request, reply) => {
      await runs.stop(request.ip, 'skip')
      return sendNull(reply)
    },
  )

  await app.register(a1111Lists, { context })

  function modelOf({ override_settings, model }: TextToImageBody | ImageToImageBody): ReturnType<typeof context.model> {
    return context.model(nameOf(override_settings?.sd_model_checkpoint || model || options.model))
  }

  async function answer(
    request: FastifyRequest<{ Body: TextToImageBody | ImageToImageBody }>,
    reply: FastifyReply,
    { name, model, note, drawing, schema }: Call,
  ): Promise<object> {
    const { body } = request
    const notes = [...(note ? [note] : []), ...drawing.notes]
    warn(reply, notes.join('; ') || undefined, [...drawing.ignored, ...unknownNames(body, schema)])
    const outcome = await runs.draw(name, request, { model, drawing }, hangUp(reply))
    return a1111Answer(withoutImages(body, schema), model, drawing, outcome)
  }
}

interface Call {
  name: string
  model: ModelState
  note: string | undefined
  drawing: A1111Drawing
  schema: typeof TextToImageSchema | typeof ImageToImageSchema
}

/** The name in a title of A1111: 'name.safetensors [6ce0161689]'. */
function nameOf(title: string): string {
  return title.replace(/ \[[0-9a-f]+\]$/i, '').replace(/\.(safetensors|gguf)$/i, '')
}

/** What is known of a body, without what would make the answer large. */
function withoutImages(
  body: TextToImageBody | ImageToImageBody,
  { properties }: Call['schema'],
): TextToImageBody | ImageToImageBody {
  const large = ['init_images', 'mask']
  return Object.fromEntries(
    Object.entries(body).filter(([name]) => Object.hasOwn(properties, name) && !large.includes(name)),
  )
}
