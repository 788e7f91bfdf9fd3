// `npm install`: takes the shipped binary when one fits this platform, otherwise compiles (in a clone, only what changed). A package
// installed with scripts disabled works as well, from the shipped binary; lib/native/addon.ts finds it.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { build } from './build.mjs'

const require = createRequire(import.meta.url)
const root = fileURLToPath(new URL('..', import.meta.url))

process.env.PREBUILDS_ONLY = '1' // what lies in build/ may be older than its source
try {
  require(require('node-gyp-build').resolve(root)) // a binary for another C library resolves but does not load
} catch {
  try {
    build()
  } catch (error) {
    console.error(`\n${error.message}\n`)
    process.exit(1)
  }
}
