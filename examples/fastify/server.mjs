// Images over HTTP:
//   node server.mjs
//   curl localhost:3000/images --json '{ "prompt": "a small red circle" }' -o image.png
//   curl --no-buffer --get localhost:3000/images/stream --data-urlencode 'prompt=a small red circle'
import { Readable } from 'node:stream'
import Fastify from 'fastify'
import { encodeImage, FluxError, FluxPipeline } from 'ggflux'

/** What strangers may ask for: bounds on the work. Everything else the pipeline checks itself. */
const schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    prompt: { type: 'string', maxLength: 2000 },
    width: { type: 'integer', maximum: 1024 },
    height: { type: 'integer', maximum: 1024 },
    steps: { type: 'integer', maximum: 50 },
    guidance: { type: 'number' },
    seed: { type: 'integer' },
  },
}
/** @type {Record<string, number>} */
const STATUS = { FLUX_BAD_OPTION: 400, FLUX_CLOSED: 503 }

const pipe = await FluxPipeline.load('tiny')
const app = Fastify({ ajv: { customOptions: { removeAdditional: false } }, forceCloseConnections: true })
const closing = new AbortController()
app.addHook('preClose', () => {
  closing.abort(new FluxError('FLUX_CLOSED', 'the server is shutting down: try again later'))
  return pipe.close()
})

app.setErrorHandler((/** @type {import('fastify').FastifyError} */ error, _request, reply) => {
  const { code, message, statusCode = 500 } = error
  return reply.status(error instanceof FluxError ? (STATUS[code] ?? 500) : statusCode).send({ code, message })
})

/** @type {import('fastify').RouteHandlerMethod} */
const draw = async (request, reply) => {
  const options = /** @type {import('ggflux').GenerateOptions} */ (request.body)
  const image = await pipe.generate({ ...options, signal: untilClosed(reply) })
  return reply.type('image/png').send(image)
}
app.post('/images', { schema: { body: schema } }, draw)

app.get('/images/stream', { schema: { querystring: schema } }, async (request, reply) => {
  const options = /** @type {import('ggflux').GenerateOptions} */ (request.query)
  // a client that reads slowly, or not at all, delays nobody: its events wait, and the image is made meanwhile
  const events = pipe.stream({ ...options, preview: { every: 1 }, signal: untilClosed(reply) })
  return reply.type('text/event-stream').send(Readable.from(serverSent(events)))
})

/**
 * Aborts when the client has gone (or has everything), or the server goes. Not `request.signal`: it aborts as soon as the body of a POST
 * is read.
 *
 * @param {import('fastify').FastifyReply} reply
 */
function untilClosed({ raw }) {
  const controller = new AbortController()
  raw.once('close', () => controller.abort())
  return AbortSignal.any([controller.signal, closing.signal])
}

/** @param {AsyncIterable<import('ggflux').GenerateEvent>} events */
async function* serverSent(events) {
  const sent = (/** @type {string} */ type, /** @type {object} */ data) =>
    `event: ${type}\ndata: ${JSON.stringify(data)}\n\n`
  try {
    for await (const event of events) {
      if (event.type === 'image') yield sent('image', { ...event, image: event.image.toString('base64') })
      else if (event.type === 'step' && event.preview) {
        const { data, width, height } = event.preview
        yield sent('step', { ...event, preview: (await encodeImage(data, width, height)).toString('base64') })
      } else yield sent(event.type, event)
    }
  } catch (error) {
    // the status was sent long ago
    if (error instanceof FluxError) yield sent('error', { code: error.code, message: error.message })
  }
}

for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => app.close())
console.log(await app.listen({ port: Number(process.env.PORT ?? 3000) }))
