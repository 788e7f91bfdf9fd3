import cors from '@fastify/cors'
import swagger from '@fastify/swagger'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, { LogController, type FastifyInstance } from 'fastify'
import { FluxError } from '../errors.js'
import { pulledModels } from '../queue/pulled-models.js'
import { FolderStore } from '../queue/folder-store.js'
import { MemoryStore } from '../queue/image-store.js'
import { MemoryQueue } from '../queue/memory-queue.js'
import { ModelCatalogue } from '../queue/model-catalogue.js'
import { ModelHost } from '../queue/model-host.js'
import type { ImageQueue } from '../queue/queue.js'
import { VERSION } from '../version.js'
import { a1111Routes } from './a1111-routes.js'
import { controlAccess } from './access.js'
import { ServerContext } from './context.js'
import { HttpError, sendError } from './errors.js'
import { infoRoutes } from './info-routes.js'
import { jobRoutes } from './job-routes.js'
import { addMetrics } from './metrics.js'
import { openaiRoutes } from './openai-routes.js'
import { addPage } from './page.js'
import { completeServerOptions, type ServerLimits, type ServerOptions, type Settings } from './server-options.js'
import { acceptForms } from './uploads.js'
import { withoutNulls } from './wire.js'

export type { ServerLimits, ServerOptions }
export type * from '../queue/queue.js'
export type { ImageStore } from '../queue/image-store.js'
export { FolderStore } from '../queue/folder-store.js'
export { MemoryQueue, type MemoryQueueOptions } from '../queue/memory-queue.js'
export { ModelCatalogue, type CatalogueOptions } from '../queue/model-catalogue.js'
export { ModelHost, type HostOptions } from '../queue/model-host.js'
export { RedisQueue, type RedisQueueOptions } from '../queue/redis-queue.js'
export { RedisWorker, type RedisWorkerOptions } from '../queue/redis-worker.js'

export interface Server {
  /** for routes and plugins of your own, before `listen` */
  app: FastifyInstance
  /** for jobs of your own */
  queue: ImageQueue
  /** @returns the server's address */
  listen(): Promise<string>
  /** Takes no more requests, lets what runs end, and frees all memory. Idempotent. */
  close(): Promise<void>
}

/**
 * Makes an HTTP server that draws: OpenAI's image routes, A1111's, jobs of our own, a web page.
 *
 * @throws {FluxError} FLUX_BAD_OPTION; FLUX_NOT_FOUND if there is no such model
 */
export async function createServer(options: ServerOptions = {}): Promise<Server> {
  const settings = completeServerOptions(options)
  const { host, port, limits, patience, logLevel = 'info', logStream, trustProxy = 0 } = settings
  const app = fastify({
    bodyLimit: limits.body,
    requestTimeout: 120_000,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 500 },
    // the address that the nearest proxy saw, not the first of the list, which clients write themselves
    trustProxy: typeof trustProxy === 'number' ? (_: string, hop: number) => hop < trustProxy : trustProxy,
    logController: new LogController({ disableRequestLogging: true }),
    logger: { level: logLevel, ...(logStream ? { stream: logStream } : {}), serializers: { req: () => ({}) } },
    http: { headersTimeout: 20_000, connectionsCheckingInterval: 5000 },
    ajv: { customOptions: { removeAdditional: false, coerceTypes: true, useDefaults: false } },
  })
  const { queue, defaultModel } = await openQueue(settings, app)
  logFailures(app, queue)
  const context = new ServerContext(queue, settings, defaultModel)

  app.removeContentTypeParser('text/plain') // which a foreign page may send without a preflight
  // clients send this type without a body as well: with DELETE, and with A1111's interrupt
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) =>
    body === '' ? done(null, undefined) : parseJson(request, body as string, done),
  )
  app.setErrorHandler(sendError)
  app.setNotFoundHandler((request, reply) => {
    const message = `there is no ${request.method} ${request.url.slice(0, 100)}; /openapi.json lists the routes`
    return sendError(new HttpError(404, 'not_found', message), request, reply)
  })
  logRequests(app)
  // before the checks, so that a page that may use the server can read why it may not do something
  if (settings.cors.length > 0)
    await app.register(cors, {
      origin: settings.cors.includes('*') ? '*' : [...settings.cors],
      methods: ['GET', 'POST', 'DELETE'],
      exposedHeaders: ['x-ggflux-warning', 'x-ggflux-job', 'location', 'retry-after'],
      strictPreflight: false,
    })
  else app.options('*', { schema: { hide: true } }, (_, reply) => reply.status(204).send())
  controlAccess(app, settings)
  cutOffSlowClients(app, limits)
  limitBodies(app, limits)
  await acceptForms(app, limits)
  app.addHook('preValidation', async (request) => {
    request.body = withoutNulls(request.body)
  })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'ggflux', version: VERSION, description: 'Images from text and images' },
      ...(settings.apiKey ? { security: [{ key: [] }] } : {}),
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
    },
  })
  addMetrics(app, queue)
  for (const routes of [jobRoutes, openaiRoutes, a1111Routes, infoRoutes])
    await app.withTypeProvider<TypeBoxTypeProvider>().register(routes, { context })
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  await addPage(app)

  let closing: Promise<void> | undefined
  const close = async (): Promise<void> => {
    await queue.close(patience)
    // answers that are on their way get a moment; who does not read them is cut off
    const timer = setTimeout(() => app.server.closeAllConnections(), 2000)
    await app.close()
    clearTimeout(timer)
  }
  return {
    app,
    queue,
    listen: async () => {
      if (closing) throw new FluxError('FLUX_CLOSED', 'the server was closed: make another one')
      return app
        .listen({ host, port, listenTextResolver: (address) => `listening at ${address}` })
        .catch((cause: Error) => {
          const remedy = 'choose another port, or a host of this machine'
          throw new FluxError('FLUX_BUSY', `cannot listen at ${host}:${port} (${cause.message}); ${remedy}`, { cause })
        })
    },
    close: () => (closing ??= close()),
  }
}

/** The queue that was given, or one in this process. */
async function openQueue(
  settings: Settings,
  app: FastifyInstance,
): Promise<{ queue: ImageQueue; defaultModel: string }> {
  const { queue, model = 'tiny', models, loras, limits, results, keepAlive, keepJobs, load } = settings
  if (queue) {
    const [first] = await queue.models()
    return { queue, defaultModel: settings.model ?? first?.name ?? 'tiny' }
  }
  const folders = { ...(models === undefined ? {} : { folder: models }), ...(loras === undefined ? {} : { loras }) }
  const named = await pulledModels(model, new ModelCatalogue(folders), load?.hub)
  const catalogue = new ModelCatalogue({ ...folders, models: named.models })
  for (const problem of await catalogue.problems()) app.log.warn(problem)
  await catalogue.model(named.name) // refuses what cannot be loaded
  const host = new ModelHost(catalogue, {
    ...(keepAlive === undefined ? {} : { keepAlive }),
    ...(load ? { load } : {}),
  })
  const keep = keepJobs ?? 3_600_000
  const store = results === undefined ? new MemoryStore() : new FolderStore(results, keep)
  if (store instanceof FolderStore) await store.check()
  const { waiting, perClient } = limits
  const onError = (error: unknown, job: string) => app.log.error({ err: error, job }, 'a fault of the server')
  return { queue: new MemoryQueue(host, { waiting, perClient, keep, store, onError }), defaultModel: named.name }
}

/** the client's own mistakes, which its answer explains */
const MISTAKES = ['FLUX_BAD_OPTION', 'FLUX_BAD_SHAPE', 'FLUX_NOT_FOUND', 'FLUX_UNSUPPORTED']

function logFailures(app: FastifyInstance, queue: ImageQueue): void {
  queue.onEnd(({ id, model, error }) => {
    if (error && !MISTAKES.includes(error.code)) app.log.warn({ job: id, model, ...error }, 'job failed')
  })
}

/** One line for each request, also for one whose client has gone. Paths are those of the routes: they hold no secrets. */
function logRequests(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    const began = performance.now()
    reply.raw.once('close', () => {
      const { method, ip, routeOptions } = request
      const status = reply.raw.writableFinished ? reply.raw.statusCode : 499
      request.log.info(
        { method, route: routeOptions.url ?? 'none', status, ms: Math.round(performance.now() - began), ip },
        'request',
      )
    })
  })
}

/** Many large requests at once must not fill the memory. A body of unknown length counts as the longest. */
function limitBodies(app: FastifyInstance, { body, bodies }: ServerLimits): void {
  let total = 0
  app.addHook('onRequest', async ({ headers }, reply) => {
    const chunked = headers['transfer-encoding'] !== undefined
    const bytes = chunked ? body : Math.min(body, Number(headers['content-length'] ?? 0))
    if (total + bytes > bodies)
      throw new FluxError('FLUX_BUSY', 'the server is reading as many large requests as it may: try again in a while')
    total += bytes
    reply.raw.once('close', () => (total -= bytes))
  })
}

/** A client that does not read its answer must not hold it in memory for ever. */
function cutOffSlowClients(app: FastifyInstance, { slowClient }: ServerLimits): void {
  app.addHook('onSend', async (request) => {
    request.raw.socket.setTimeout(slowClient)
  })
}
