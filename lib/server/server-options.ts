import { isIP } from 'node:net'
import { FluxError } from '../errors.js'
import { badOption, requireOptions, requireWhole } from '../options/checks.js'
import type { LoadOptions } from '../pipeline/load-options.js'
import type { ImageQueue } from '../queue/queue.js'

export interface ServerOptions {
  /** address to listen on; one that others can reach needs `apiKey` or `auth: false` @default '127.0.0.1' */
  host?: string
  /** 0 takes a free one @default 7860 */
  port?: number
  /** what clients send as `Authorization: Bearer …`; everything but the page and `/health` needs it @default none */
  apiKey?: string
  /** false: no key, although others can reach the server @default true */
  auth?: boolean
  /** names of this machine, besides localhost, its host name and addresses, that requests may be sent to */
  allowedHosts?: readonly string[]
  /** origins of web pages that may use the server, such as 'https://example.com', or '*' @default none */
  cors?: readonly string[]
  /**
   * how many proxies are in front, which all add to `X-Forwarded-For`; or their addresses, separated by commas. What
   * clients write into it themselves is not believed @default 0
   */
  trustProxy?: number | string
  /** the model for requests that name none: as for `load`, or a name in the folder @default 'tiny' */
  model?: string
  /** folder of models, in ComfyUI's layout or one subfolder for each */
  models?: string
  /** folder of LoRAs @default `loras` in `models` */
  loras?: string
  /** other names of models, for clients with a fixed choice: `{ 'dall-e-3': 'flux.1-schnell' }` */
  aliases?: Readonly<Record<string, string>>
  /** milliseconds that an idle model stays in memory @default 300000 */
  keepAlive?: number
  /** how models are loaded; in a child process unless `isolate` is false */
  load?: Omit<LoadOptions, 'signal' | 'onProgress' | 'onDownload'>
  /** folder that keeps the images, in its subfolder `ggflux-images` @default in memory, 512 MiB of them */
  results?: string
  /** milliseconds that a job and its images are kept @default one hour */
  keepJobs?: number
  /** takes the place of the queue in this process; then `models`, `loras`, `load` and the like are the workers' */
  queue?: ImageQueue
  limits?: Partial<ServerLimits>
  /** whether clients of A1111's API choose the steps of models that have few, and true CFG @default false */
  a1111Settings?: boolean
  /** milliseconds that running jobs may take to end when the server is closed @default 30000 */
  patience?: number
  /** log level of pino, or 'silent' @default 'info' */
  logLevel?: string
  /** receives the log @default stdout */
  logStream?: { write(line: string): void }
  /** whether prompts are logged @default false */
  logPrompts?: boolean
}

export interface ServerLimits {
  /** bytes of a request @default 48 MiB */
  body: number
  /** bytes of all requests that are being read or answered @default 512 MiB */
  bodies: number
  /** characters of a prompt @default 10000 */
  prompt: number
  /** images of a request @default 10 */
  count: number
  /** @default 150 */
  steps: number
  /** LoRAs of a request @default 16 */
  loras: number
  /** width times height of an image that is made @default 4194304 (2048 x 2048) */
  pixels: number
  /** width times height of an image that is sent @default 33554432 */
  inputPixels: number
  /** jobs that wait @default 100 */
  waiting: number
  /** jobs of one client, waiting and running @default 20 */
  perClient: number
  /** milliseconds in which a client has to read something of its answer @default 30000 */
  slowClient: number
}

const LIMITS: ServerLimits = {
  body: 48 * 2 ** 20,
  bodies: 512 * 2 ** 20,
  prompt: 10_000,
  count: 10,
  steps: 150,
  loras: 16,
  pixels: 2 ** 22,
  inputPixels: 2 ** 25,
  waiting: 100,
  perClient: 20,
  slowClient: 30_000,
}

/** the longest time that a timer takes, 24 days */
const MOST_MS = 2 ** 31 - 1

const KNOWN = [
  ...['host', 'port', 'apiKey', 'auth', 'allowedHosts', 'cors', 'trustProxy', 'model', 'models', 'loras', 'aliases'],
  ...['keepAlive', 'load', 'results', 'keepJobs', 'queue', 'limits', 'a1111Settings', 'patience'],
  ...['logLevel', 'logStream', 'logPrompts'],
]

export type Settings = ServerOptions & {
  host: string
  port: number
  allowedHosts: readonly string[]
  cors: readonly string[]
  aliases: Readonly<Record<string, string>>
  patience: number
  limits: ServerLimits
}

/** @throws {FluxError} FLUX_BAD_OPTION */
export function completeServerOptions(options: ServerOptions): Settings {
  requireOptions('the options of createServer', options, KNOWN)
  const { host = '127.0.0.1', port = 7860, apiKey, auth = true, limits = {} } = options
  requireOptions('limits', limits, Object.keys(LIMITS))
  const complete = { ...LIMITS, ...limits }
  for (const [name, value] of Object.entries(complete))
    requireWhole(`limits.${name}`, value, 1, Number.MAX_SAFE_INTEGER)
  if (typeof host !== 'string' || host === '') throw badOption('host', host, "an address such as '127.0.0.1'")
  requireWhole('port', port, 0, 65535)
  if (apiKey !== undefined && (typeof apiKey !== 'string' || !/^[\x21-\x7e]{8,}$/.test(apiKey)))
    throw new FluxError(
      'FLUX_BAD_OPTION',
      'apiKey is too short or has spaces: give at least 8 visible ASCII characters',
    )
  if (!isLoopback(host) && apiKey === undefined && auth)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `host is '${host}', which others can reach: give an API key (--api-key, GGFLUX_API_KEY), or allow everybody with --no-auth (auth: false)`,
    )
  const { cors = [], keepAlive = 0, keepJobs = 0, patience = 30_000, trustProxy = 0 } = options
  if (!Array.isArray(cors) || !cors.every(isOrigin))
    throw badOption('cors', cors, "origins such as ['https://example.com'], or ['*']")
  if (typeof trustProxy !== 'string') requireWhole('trustProxy', trustProxy, 0, 16)
  if (!(keepAlive >= 0)) throw badOption('keepAlive', keepAlive, 'milliseconds, or Infinity')
  requireWhole('keepJobs', keepJobs, 0, MOST_MS)
  requireWhole('patience', patience, 0, MOST_MS)
  return {
    ...options,
    ...{ host, port, limits: complete },
    allowedHosts: options.allowedHosts ?? [],
    cors,
    aliases: options.aliases ?? {},
    patience,
  }
}

function isOrigin(text: unknown): boolean {
  return text === '*' || (typeof text === 'string' && URL.canParse(text) && new URL(text).origin === text)
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
