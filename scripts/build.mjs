// Compiles the addon into build/Release, by cmake-js. The CMake cache lies in build/cmake, so a second build compiles only what changed.
//   node scripts/build.mjs [--debug] [--variants native|all] [--cuda [--architectures 89-real]] [CMake definitions: -DNAME=value …]
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ensureGgml } from './ggml.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Throws an Error whose message ends with what the compiler said and what to do. */
export function build({
  debug = false,
  variants = 'native',
  cuda = false,
  architectures = '',
  define = [],
  out = path.join('build', 'cmake'),
} = {}) {
  for (const [tool, remedy] of [
    ...(cuda ? [[nvcc(), `${CUDA_TOOLKIT}, and put its bin folder into PATH`]] : []),
    [
      'cmake',
      'install CMake 3.20 or newer (Debian, Ubuntu: apt install cmake; macOS: brew install cmake; Windows: winget install Kitware.CMake)',
    ],
    [
      'git',
      'install git (Debian, Ubuntu: apt install git; macOS: xcode-select --install; Windows: winget install Git.Git)',
    ],
  ]) {
    if (spawnSync(tool, ['--version']).status !== 0)
      throw new Error(`ggflux needs \`${tool}\` to be compiled. What to do: ${remedy}.`)
  }
  ensureGgml(root)
  const log = path.join(root, 'build', 'build.log')
  const first = !existsSync(path.join(root, out, 'CMakeCache.txt'))
  const duration = cuda ? 'half an hour and more' : variants === 'all' ? 'five to ten minutes' : 'one to two minutes'
  console.log(
    `ggflux: compiling the addon${first || cuda ? ` (${duration} on two cores)` : ''}; the compiler's output goes to ${log}`,
  )
  mkdirSync(path.dirname(log), { recursive: true })
  rmSync(log, { force: true })

  const options = ['--out', out, '--parallel', String(os.availableParallelism()), `--CDGGFLUX_CPU_VARIANTS=${variants}`]
  if (debug) options.push('--debug')
  if (cuda) options.push(...cudaOptions(architectures).map((definition) => `--CD${definition}`))
  for (const definition of define) options.push(`--CD${definition}`)
  if (!cmakeJs('configure', options, log)) {
    // a folder that was moved, or a cache that an interrupted run left unfinished, can only be thrown away
    rmSync(path.join(root, out), { recursive: true, force: true })
    if (!cmakeJs('configure', options, log)) fail(log, cuda)
  }
  if (!cmakeJs('build', options, log)) fail(log, cuda)
}

const CUDA_TOOLKIT = "install NVIDIA's CUDA toolkit, with cuBLAS"

function nvcc() {
  return process.env.CUDACXX ?? (spawnSync('nvcc', ['--version']).status === 0 ? 'nvcc' : '/usr/local/cuda/bin/nvcc')
}

// For this machine's GPU, or, where none answers, for every generation that ggml knows.
function cudaOptions(architectures) {
  const here = spawnSync('nvidia-smi', ['-L']).status === 0 ? 'native' : ''
  const chosen = architectures || here
  // NCCL: only for several GPUs that share the work on one picture, which nothing here does
  return [
    'GGML_CUDA=ON',
    'GGML_CUDA_NCCL=OFF',
    `CMAKE_CUDA_COMPILER=${nvcc()}`,
    ...(chosen ? [`CMAKE_CUDA_ARCHITECTURES=${chosen}`] : []),
  ]
}

// Never `cmake-js compile`: it configures only once, whatever the definitions, and compiles everything again when one file has an error.
function cmakeJs(command, options, log) {
  const program = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js')
  const output = openSync(log, 'a')
  try {
    // Paths below the project are cached as relative ones, so that another clone compiles from the same ccache.
    const env = { CCACHE_BASEDIR: root, ...process.env }
    return (
      spawnSync(process.execPath, [program, command, ...options], { cwd: root, stdio: ['ignore', output, output], env })
        .status === 0
    )
  } finally {
    closeSync(output)
  }
}

function fail(log, cuda) {
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n')
  const error = lines.findIndex((line) => /^FAILED:|CMake Error|\berror(?: [A-Z]+\d+)?:/.test(line))
  const shown = error < 0 ? lines.slice(-40) : lines.slice(error, error + 40)
  throw new Error(
    `${shown.join('\n')}\n\nggflux could not be compiled; what the compiler said stands above, and in full in ${log}.\n` +
      (cuda
        ? `What to do: ${CUDA_TOOLKIT} (Debian, Ubuntu: cuda-toolkit from NVIDIA's own repository), of a version that takes this C++ compiler.`
        : 'What to do: a C++17 compiler is needed (Debian, Ubuntu: apt install g++; macOS: xcode-select --install; Windows: Visual Studio with C++).'),
  )
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      debug: { type: 'boolean' },
      variants: { type: 'string' },
      cuda: { type: 'boolean' },
      architectures: { type: 'string' },
      define: { type: 'string', short: 'D', multiple: true },
      out: { type: 'string' },
    },
  })
  try {
    build(values)
  } catch (error) {
    console.error(`\n${error.message}\n`)
    process.exit(1)
  }
}
