// Builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer into build/sanitize and runs the native tests on it.
//   node scripts/sanitize.mjs [files or options for vitest]
import { execFileSync, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from './build.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const output = path.join(root, 'build', 'sanitize', 'Release')
const compiler = process.env.CC ?? 'gcc'

// Node itself is not instrumented, so the sanitizers' libraries have to be there before it starts.
function library(name) {
  const file = execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim()
  if (!path.isAbsolute(file))
    throw new Error(
      `${compiler} has no ${name}. What to do: install the sanitizer libraries of the compiler (they come with gcc).`,
    )
  return file
}

if (process.platform !== 'linux') throw new Error(`the sanitizers run on Linux only, not on ${process.platform}`)
build({ 'cmake-folder': path.join('build', 'sanitize', 'cmake'), output, define: ['GGFLUX_SANITIZE=ON'] })

const vitest = path.join(path.dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')
const tests = process.argv.slice(2)
const { status } = spawnSync(process.execPath, [vitest, 'run', ...(tests.length ? tests : ['test/native'])], {
  cwd: root,
  stdio: 'inherit',
  env: {
    ...process.env,
    GGFLUX_ADDON: output,
    GGFLUX_SANITIZED: '1',
    LD_PRELOAD: `${library('libasan.so')} ${library('libubsan.so')}`,
    // Leaks: V8's heap is no root for the leak checker, so all that JavaScript objects hold would be reported.
    ASAN_OPTIONS: 'detect_leaks=0:quarantine_size_mb=16',
    UBSAN_OPTIONS: `halt_on_error=1:print_stacktrace=1:suppressions=${path.join(root, 'scripts', 'sanitize.supp')}`,
  },
})
process.exit(status ?? 1)
