// `npm install`: takes the shipped binary when one fits this platform, otherwise compiles. A package installed with scripts disabled works
// as well, from the shipped binary; lib/native.ts finds it.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { build } from './build.mjs'

const require = createRequire(import.meta.url)
const root = fileURLToPath(new URL('..', import.meta.url))

try {
  const file = require('node-gyp-build').resolve(root)
  require(file) // a binary of another C library or of a half-finished build resolves but does not load
} catch {
  try {
    build()
  } catch (error) {
    console.error(`\n${error.message}\n`)
    process.exit(1)
  }
}
