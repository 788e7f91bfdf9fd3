import { FluxError } from '../../errors.js'

export interface RedisPackages {
  bullmq: typeof import('bullmq')
  ioredis: Pick<typeof import('ioredis'), 'Redis'>
}

/**
 * Loads the optional packages bullmq and ioredis. Public files do not export anything that has them in its type: such a
 * declaration does not compile without the packages.
 *
 * @throws {FluxError} FLUX_UNSUPPORTED when one is not installed
 */
export async function loadRedisPackages(): Promise<RedisPackages> {
  try {
    const [bullmq, ioredis] = await Promise.all([import('bullmq'), import('ioredis')])
    return { bullmq, ioredis }
  } catch (cause) {
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      'a queue in Redis needs the packages bullmq and ioredis: run npm install bullmq ioredis',
      { cause },
    )
  }
}
