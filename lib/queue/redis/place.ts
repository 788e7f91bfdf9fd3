export interface RedisPlace {
  /** `redis://name:password@host:port/database`, or `rediss://` with TLS */
  url: string
  /** what all keys begin with, for several queues in one Redis @default 'ggflux' */
  prefix?: string
}
