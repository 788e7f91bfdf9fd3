import type { Redis, RedisOptions } from 'ioredis'
import { FluxError } from '../../errors.js'
import { warnProcess } from '../../options/warn.js'
import { Keys } from './keys.js'
import { loadRedisPackages, type RedisPackages } from './packages.js'
import type { RedisPlace } from './place.js'
import { SCRIPTS, type Scripts } from './scripts.js'

/** a first connection has to be there after this time, in milliseconds */
const CONNECT_MS = 5000
/** most milliseconds between two tries to connect again */
const RETRY_MS = 1000
/** BullMQ's least */
const LEAST_VERSION = [6, 2] as const

export type Client = Redis & Scripts

/** The two connections of a process: one for commands, one that listens. Both connect again by themselves. */
export class RedisConnection {
  readonly client: Client
  readonly bullmq: RedisPackages['bullmq']
  readonly keys: Keys
  /** the address without the password */
  readonly address: string
  readonly #subscriber: Redis
  readonly #listeners: ((channel: string, message: string) => void)[] = []

  private constructor(
    client: Client,
    subscriber: Redis,
    { bullmq, keys, address }: Pick<RedisConnection, 'bullmq' | 'keys' | 'address'>,
  ) {
    this.client = client
    this.#subscriber = subscriber
    this.bullmq = bullmq
    this.keys = keys
    this.address = address
    subscriber.on('message', (channel, message) => {
      for (const listener of this.#listeners) listener(channel, message)
    })
  }

  /**
   * @throws {FluxError} FLUX_UNSUPPORTED without the packages, or for an old Redis; FLUX_BAD_OPTION for an address or a
   *   password that is wrong; FLUX_NOT_FOUND if there is no Redis
   */
  static async connect({ url, prefix = 'ggflux' }: RedisPlace): Promise<RedisConnection> {
    const address = addressOf(url)
    if (!/^[\w.-]{1,100}$/.test(prefix))
      throw new FluxError('FLUX_BAD_OPTION', `the prefix is '${prefix}': use letters, digits, -, . and _`)
    const { bullmq, ioredis } = await loadRedisPackages()
    const keys = new Keys(prefix)
    const options: RedisOptions = {
      lazyConnect: true,
      maxRetriesPerRequest: null, // commands wait until Redis is back; who cannot wait has a limit of its own
      retryStrategy: (times) => Math.min(times * 100, RETRY_MS),
      connectTimeout: CONNECT_MS,
      scripts: SCRIPTS,
    }
    const client = new ioredis.Redis(url, options) as Client
    const subscriber = client.duplicate()
    try {
      await firstConnection(client, address)
      await firstConnection(subscriber, address)
      await examine(client, address)
      return new RedisConnection(client, subscriber, { bullmq, keys, address })
    } catch (error) {
      client.disconnect()
      subscriber.disconnect()
      throw error
    }
  }

  /** @param listener called with the messages of `channels`; with empty ones when some may have been missed */
  async listen(channels: string[], listener: (channel: string, message: string) => void): Promise<void> {
    this.#listeners.push((channel, message) => {
      if (channels.includes(channel)) listener(channel, message)
    })
    this.#subscriber.on('ready', () => {
      for (const channel of channels) listener(channel, '')
    })
    await this.#subscriber.subscribe(...channels)
  }

  /** @param listener called once when Redis does not answer any more, each time */
  onOutage(listener: () => void): void {
    let isAway = false
    this.client.on('ready', () => (isAway = false))
    this.client.on('close', () => {
      if (!isAway) listener()
      isAway = true
    })
  }

  close(): void {
    this.client.disconnect()
    this.#subscriber.disconnect()
  }
}

function addressOf(url: string): string {
  const { protocol, host, pathname } = URL.canParse(url) ? new URL(url) : { protocol: '', host: '', pathname: '' }
  if (!['redis:', 'rediss:'].includes(protocol) || host === '')
    throw new FluxError(
      'FLUX_BAD_OPTION',
      'the address of Redis is none: give redis://host:port, or redis://name:password@host:port/database', // it may contain a password
    )
  return `${protocol}//${host}${pathname === '/' ? '' : pathname}`
}

async function firstConnection(client: Redis, address: string): Promise<void> {
  let reason = new Error(`no answer within ${CONNECT_MS / 1000} s`)
  // without a listener ioredis writes every error to stderr
  client.on('error', (error: Error) => (reason = error))
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(reason), CONNECT_MS).unref()))
  try {
    await Promise.race([client.connect(), late])
  } catch {
    const { message } = reason
    if (/WRONGPASS|NOAUTH|NOPERM|invalid password|DB index/i.test(message))
      throw new FluxError('FLUX_BAD_OPTION', `Redis at ${address} refuses the connection (${message}): correct the URL`)
    throw new FluxError(
      'FLUX_NOT_FOUND',
      `there is no Redis at ${address} (${message}): start one with redis-server, or give the address of another`,
    )
  } finally {
    clearTimeout(timer)
  }
}

async function examine(client: Redis, address: string): Promise<void> {
  const info = await client.info()
  const value = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
  const version = value('redis_version') ?? '0'
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [leastMajor, leastMinor] = LEAST_VERSION
  if (major < leastMajor || (major === leastMajor && minor < leastMinor))
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `Redis at ${address} has the version ${version}: install ${LEAST_VERSION.join('.')} or newer`,
    )
  const policy = value('maxmemory_policy')
  if (policy !== undefined && policy !== 'noeviction')
    warnProcess(
      `Redis at ${address} deletes keys when its memory is full (maxmemory-policy ${policy}), and jobs with them: set maxmemory-policy noeviction`,
    )
}
