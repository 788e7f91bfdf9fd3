import type { FastifyInstance } from 'fastify'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ImageQueue } from '../queue/queue.js'

const SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 180, 600]

/** `GET /metrics` in Prometheus' form. */
export function addMetrics(app: FastifyInstance, queue: ImageQueue): void {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const jobs = new Counter({
    name: 'ggflux_jobs_total',
    help: 'Jobs that ended',
    labelNames: ['state', 'model'],
    registers,
  })
  const stages = new Histogram({
    ...{ name: 'ggflux_stage_seconds', help: 'Time of the stages of an image', labelNames: ['stage', 'model'] },
    ...{ buckets: SECONDS, registers },
  })
  const requests = new Histogram({
    ...{ name: 'ggflux_http_request_seconds', help: 'Time of requests', labelNames: ['method', 'route', 'status'] },
    ...{ buckets: [0.005, 0.025, ...SECONDS], registers },
  })
  new Gauge({
    ...{ name: 'ggflux_queue_jobs', help: 'Jobs in the queue', labelNames: ['state'], registers },
    async collect() {
      const { waiting, running } = await queue.counts()
      this.set({ state: 'waiting' }, waiting)
      this.set({ state: 'running' }, running)
    },
  })
  new Gauge({
    ...{ name: 'ggflux_workers', help: 'Processes that take jobs', registers },
    async collect() {
      this.set((await queue.counts()).workers)
    },
  })
  new Gauge({
    ...{
      name: 'ggflux_device_memory_bytes',
      help: 'Memory of the devices in use',
      labelNames: ['device', 'kind'],
      registers,
    },
    async collect() {
      this.reset()
      for (const { name, memoryFree, memoryTotal } of await queue.devices()) {
        this.set({ device: name, kind: 'free' }, memoryFree)
        this.set({ device: name, kind: 'total' }, memoryTotal)
      }
    },
  })
  queue.onEnd(({ state, model, images }) => {
    jobs.inc({ state, model })
    for (const { timings } of images)
      for (const [stage, ms] of Object.entries(timings)) stages.observe({ stage, model }, ms / 1000)
  })
  app.addHook('onRequest', async (request, reply) => {
    const end = requests.startTimer()
    // a client that goes has no response, and the hook for responses is not called
    reply.raw.once('close', () =>
      end({ method: request.method, route: request.routeOptions.url ?? 'none', status: reply.raw.statusCode }),
    )
  })
  app.get('/metrics', { schema: { tags: ['health'], summary: "Figures in Prometheus' form" } }, async (_, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  )
}
