import { InvalidArgumentError, type Command } from 'commander'
import type { Server, ServerOptions } from '../server/index.js'
import { addText, parseKeepAlive, parseNumber } from './arguments.js'
import { addHostOptions, given, MACHINE_OPTIONS, resolveModel, type MachineOptions } from './model-options.js'
import { FluxError } from '../errors.js'
import { badOption } from '../options/checks.js'
import { defined } from '../options/defined.js'
import type { ImageQueue } from '../queue/queue.js'
import { requestLog } from './request-log.js'

interface Options extends MachineOptions {
  host: string
  port: number
  apiKey?: string
  auth: boolean
  allowHost?: string[]
  cors?: string[]
  trustProxy?: number | true
  model?: string
  models?: string
  loras?: string
  alias?: Record<string, string>
  keepAlive?: number
  results?: string
  redis?: string
  prefix?: string
  maxPixels?: number
  maxSteps?: number
  maxCount?: number
  maxWaiting?: number
  maxPerClient?: number
  a1111Settings?: true
  logPrompts?: true
  quiet?: true
}

export function serveCommand(program: Command): void {
  const command = program
    .command('serve')
    .description("serve images over HTTP: a web page, OpenAI's and A1111's APIs, a queue of jobs")
    .optionsGroup('Network:')
    .option('--port <number>', 'the port to listen on; 0 takes a free one', parseNumber, 7860)
    .option('--host <address>', 'the address to listen on; 0.0.0.0 for all of this machine', '127.0.0.1')
    .option('--api-key <key>', 'what clients have to send; also GGFLUX_API_KEY, which other users cannot see')
    .option('--no-auth', 'let everybody in who can reach the address')
    .option('--allow-host <name>', 'a name of this machine that requests may be sent to; may be repeated', addText)
    .option('--cors <origin>', 'a web page that may use the server, https://…; may be repeated', addText)
    .option('--trust-proxy [number]', 'so many proxies are in front (default without a number: 1)', parseNumber)
    .optionsGroup('Models:')
    .option('--model <name>', 'for requests that name none: a preset, a folder, or a name in --models (default: tiny)')
    .option('--models <folder>', "more models, in ComfyUI's folders or one folder for each")
    .option('--loras <folder>', 'LoRAs (default: loras in --models)')
    .option(
      '--alias <name=model>',
      'another name of a model, such as dall-e-3=flux.1-schnell; may be repeated',
      addAlias,
    )
    .option(
      '--keep-alive <seconds>',
      'how long a model stays in memory after its last image; or forever (default: 300)',
      parseKeepAlive,
    )
    .option('--a1111-settings', "take steps and CFG of A1111's clients as they are, also for models with few steps")
    .optionsGroup('Limits:')
    .option('--max-pixels <n>', 'width times height of an image (default: 4194304, 2048 x 2048)', parseNumber)
    .option('--max-steps <n>', '(default: 150)', parseNumber)
    .option('--max-count <n>', 'images of one request (default: 10)', parseNumber)
    .option('--max-waiting <n>', 'jobs in the queue (default: 100)', parseNumber)
    .option('--max-per-client <n>', 'jobs of one client in the queue (default: 20)', parseNumber)
    .optionsGroup('Several machines:')
    .option('--redis <url>', 'let workers (ggflux worker) make the images, through this Redis: redis://host:port')
    .option('--prefix <name>', 'what keys in Redis begin with (default: ggflux)')
    .optionsGroup('Output:')
    .option(
      '--results <folder>',
      'keep the images there for an hour; with --redis the folder that all share (default: in memory)',
    )
    .option('--log-prompts', 'write the prompts into the log')
    .option('-q, --quiet', 'log warnings and errors only')
  addHostOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  ggflux serve                                       open http://127.0.0.1:7860 in a browser
  ggflux serve --model flux.1-schnell
  ggflux serve --models ~/ComfyUI/models --model flux1-schnell-Q4_K_S
  GGFLUX_API_KEY=… ggflux serve --host 0.0.0.0       for other machines
  ggflux serve --redis redis://queue:6379 --results /mnt/images
  curl localhost:7860/v1/images/generations --json '{"prompt": "a red circle"}'`,
    )
    .action(serve)
}

async function serve(options: Options): Promise<void> {
  const server = await open(options)
  process.stderr.write(`ggflux serves ${await server.listen()}; Ctrl-C ends it\n`)
  const ended = new Promise<void>((resolve) => server.app.server.once('close', resolve))
  let closing = false
  const end = (): void => {
    if (closing) process.exit(130)
    closing = true
    process.stderr.write('letting the running image end; Ctrl-C again ends at once\n')
    server.close().catch((error: unknown) => {
      console.error(error)
      process.exit(1)
    })
  }
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, end)
  await ended
  await server.close()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, end)
}

async function open(options: Options): Promise<Server> {
  const { createServer } = await import('../server/index.js')
  const { host, port, auth, apiKey = process.env.GGFLUX_API_KEY || undefined, quiet, keepAlive } = options
  const { model, models, loras, alias, results, allowHost, cors, trustProxy, a1111Settings, logPrompts } = options
  const { maxPixels: pixels, maxSteps: steps, maxCount: count, maxWaiting: waiting, maxPerClient: perClient } = options
  const queue = options.redis === undefined ? undefined : await sharedQueue(options)
  if (!queue && model !== undefined && models === undefined) await resolveModel({ model, ...(quiet ? { quiet } : {}) })
  const optional = {
    ...{
      apiKey,
      allowedHosts: allowHost,
      cors,
      trustProxy: trustProxy === true ? 1 : trustProxy,
      model,
      models,
      loras,
      aliases: alias,
      results,
    },
    ...{ queue, a1111Settings, logPrompts, keepAlive: keepAlive === undefined ? undefined : keepAlive * 1000 },
  }
  return createServer({
    ...(defined(optional) as ServerOptions),
    ...{ host, port, auth, logLevel: quiet ? 'warn' : 'info' },
    ...(process.stdout.isTTY ? { logStream: requestLog(process.stdout) } : {}),
    limits: defined({ pixels, steps, count, waiting, perClient }),
    load: given(options, MACHINE_OPTIONS),
  })
}

/** The queue in Redis, from which workers take the jobs. */
async function sharedQueue(options: Options): Promise<ImageQueue> {
  const { redis: url = '', prefix, results, maxWaiting: waiting, maxPerClient: perClient } = options
  const idle = (['models', 'loras', 'keepAlive', ...MACHINE_OPTIONS] as const).find(
    (name) => options[name] !== undefined,
  )
  if (idle !== undefined)
    throw badOption(idle, options[idle], 'it to the workers (ggflux worker): with --redis they make the images')
  if (results === undefined)
    throw new FluxError('FLUX_BAD_OPTION', '--results is missing: give the folder that servers and workers share')
  const { FolderStore } = await import('../queue/folder-store.js')
  const { RedisQueue } = await import('../queue/redis-queue.js')
  const store = new FolderStore(results)
  await store.check()
  return RedisQueue.connect({ url, store, ...defined({ prefix, waiting, perClient }) })
}

function addAlias(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [, name, model] = /^([^=]+)=(.+)$/.exec(text) ?? []
  if (name === undefined || model === undefined) throw new InvalidArgumentError('Give name=model.')
  return { ...before, [name]: model }
}
