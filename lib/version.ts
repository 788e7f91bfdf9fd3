import { createRequire } from 'node:module'

/** ggflux's own version, from its package.json */
export const VERSION: string = createRequire(import.meta.url)('../package.json').version
