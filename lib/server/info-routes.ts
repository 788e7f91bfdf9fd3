import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { readParameters } from '../images/read-parameters.js'
import type { ModelState } from '../queue/queue.js'
import { SAMPLERS } from '../sampling/samplers.js'
import { SCHEDULERS } from '../sampling/schedule.js'
import { VERSION } from '../version.js'
import type { ServerContext } from './context.js'
import { image } from './request-schema.js'
import { toWire } from './wire.js'

/** What there is: models, samplers, LoRAs, limits, health; and the settings in an image. */
export const infoRoutes: FastifyPluginAsyncTypebox<{ context: ServerContext }> = async (app, { context }) => {
  const { queue, settings, defaultModel } = context
  const { aliases, limits } = settings
  const { body, count, inputPixels, loras, pixels, prompt, steps } = limits

  app.get(
    '/v1/models',
    { schema: { tags: ['models'], summary: 'The models, with other names for them' } },
    async () => {
      const models = await queue.models()
      const named = Object.entries(aliases).flatMap(([alias, name]) => {
        const model = models.find((one) => one.name === name)
        return model ? [modelBody({ ...model, name: alias })] : []
      })
      return { object: 'list', data: [...models.map(modelBody), ...named] }
    },
  )

  app.get(
    '/v1/models/:id',
    { schema: { tags: ['models'], summary: 'One model', params: Type.Object({ id: Type.String() }) } },
    async (request) => {
      const { model } = await context.model(request.params.id)
      return modelBody({ ...model, name: request.params.id })
    },
  )

  app.get('/v1/capabilities', { schema: { tags: ['models'], summary: 'What requests may ask for' } }, async () => ({
    version: VERSION,
    default_model: defaultModel,
    samplers: Object.keys(SAMPLERS),
    schedulers: Object.keys(SCHEDULERS),
    formats: ['png', 'jpeg', 'webp', 'avif'],
    loras: (await queue.loras()).map((name) => ({ name })),
    limits: { body, count, input_pixels: inputPixels, loras, pixels, prompt, steps },
  }))

  app.post(
    '/v1/parameters',
    {
      schema: {
        tags: ['models'],
        summary: 'The settings that an image was made with',
        description: '`writer` is null for an image that says nothing about it.',
        body: Type.Object({ image: image('a file that ggflux, A1111, Forge or ComfyUI wrote') }),
      },
    },
    async (request) => {
      const found = await readParameters(await context.image('image', request.body.image))
      if (!found) return { writer: null, options: {}, loras: [], unmapped: {}, text: '' }
      // names in `unmapped` are those of the file
      return { ...found, options: toWire(found.options) }
    },
  )

  app.get(
    '/health',
    { schema: { tags: ['health'], summary: 'Whether the server takes requests' } },
    async (_, reply) => {
      const counts = await queue.counts()
      const ok = counts.workers > 0
      return reply.status(ok ? 200 : 503).send({ status: ok ? 'ok' : 'no worker', version: VERSION, ...counts })
    },
  )
}

function modelBody({ name, changedAt, loaded, defaults, reads, bytes }: ModelState): object {
  const created = Math.floor(changedAt / 1000)
  return { id: name, object: 'model', created, owned_by: 'ggflux', loaded, bytes, defaults, reads }
}
