// An image server with a route of your own, next to the page and the APIs that it has anyway:
//   node server.mjs
//   curl 'localhost:7860/circle?colour=red' -o circle.png
import { createServer } from 'ggflux/server'

const server = await createServer({ model: 'tiny', port: Number(process.env.PORT ?? 7860) })

const schema = { querystring: { type: 'object', properties: { colour: { enum: ['red', 'green', 'blue'] } } } }
server.app.get('/circle', { schema }, async (request, reply) => {
  const { colour = 'red' } = /** @type {{ colour?: string }} */ (request.query)
  const options = { prompt: `a small ${colour} circle on a white background`, width: 128, height: 128 }
  const job = await server.queue.add({ model: 'tiny', options }, { client: request.ip })
  // a client that goes ends its job
  reply.raw.once('close', () => reply.raw.writableFinished || job.cancel())
  for await (const event of job.events())
    if (event.type === 'failed') return reply.status(500).send({ code: event.code, message: event.message })
  return reply.type('image/png').send(await job.image(0))
})

for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => server.close())
console.log(await server.listen())
