// Compiles the addon into build/Release, by cmake-js. The CMake cache lies in build/cmake, so a second build compiles only what changed.
//   node scripts/build.mjs [--debug] [--variants native|all] [CMake definitions: -DNAME=value …]
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ensureGgml } from './ggml.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

export function build({ debug = false, variants = 'native', define = [], out = path.join('build', 'cmake') } = {}) {
  for (const [tool, remedy] of [
    ['cmake', 'install CMake 3.20 or newer (Debian, Ubuntu: apt install cmake; macOS: brew install cmake; Windows: winget install Kitware.CMake)'],
    ['git', 'install git'],
  ]) {
    if (spawnSync(tool, ['--version']).status !== 0) throw new Error(`ggflux needs \`${tool}\` to be compiled. What to do: ${remedy}.`)
  }
  ensureGgml(root)
  const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js')
  const args = ['compile', '--out', out, '--parallel', String(os.availableParallelism()), `--CDGGFLUX_CPU_VARIANTS=${variants}`]
  if (debug) args.push('--debug')
  for (const definition of define) args.push(`--CD${definition}`)
  const result = spawnSync(process.execPath, [cmakeJs, ...args], { cwd: root, stdio: 'inherit' })
  if (result.status !== 0) {
    throw new Error('ggflux could not be compiled; the compiler\'s message stands above. What to do: a C++17 compiler is needed (Debian, Ubuntu: apt install g++).')
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { debug: { type: 'boolean' }, variants: { type: 'string' }, define: { type: 'string', short: 'D', multiple: true }, out: { type: 'string' } },
  })
  try {
    build(values)
  } catch (error) {
    console.error(`\n${error.message}\n`)
    process.exit(1)
  }
}
