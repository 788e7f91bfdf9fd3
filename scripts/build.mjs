// Compiles the addon with CMake into build/Release. CMake's own files lie in build/cmake, so a second build compiles only what changed.
//   node scripts/build.mjs [--debug] [--variants native|all] [--cuda [--architectures 89-real]] [--target linux-arm64|win32-x64]
//                          [--cmake-folder build/cmake] [--output build/Release] [-D NAME=value …]
// --target compiles for another platform into build/<target>, with the compiler that native/toolchains/<target>.cmake names. The CPU that `native` means is
// then unknown, so it is one variant for most machines: AVX2 on x64, Armv8.2 with dot products on arm64.
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ensureGgml, npm, runAsProgram } from './ggml.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** `linux-x64`, as npm names this platform. */
export const HERE = `${process.platform}-${process.arch}`

// Headers alone. In a clone they are devDependencies; a build from the installed package fetches them.
const HEADERS = { 'node-addon-api': '8.9.2', 'node-api-headers': '1.9.0' }

/**
 * Throws an Error whose message ends with what the compiler said and what to do. Folders may be relative to the project.
 * Returns the folder of the finished libraries.
 */
export function build({
  debug = false,
  variants = 'native',
  cuda = false,
  architectures = '',
  define = [],
  target = HERE,
  output = path.join('build', target !== HERE ? target : debug ? 'Debug' : 'Release'),
  'cmake-folder': cmakeFolder = path.join(
    'build',
    `cmake${target === HERE ? '' : `-${target}`}${debug ? '-debug' : ''}`,
  ),
} = {}) {
  if (!['native', 'all'].includes(variants))
    throw new Error(`--variants is '${variants}'. What to do: use native or all.`)
  const toolchain = path.join(root, 'native', 'toolchains', `${target}.cmake`)
  if (target !== HERE && !existsSync(toolchain))
    throw new Error(`ggflux cannot be compiled for '${target}' on ${HERE}: ${toolchain} does not exist.`)
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
  const headers = findHeaders()
  const log = path.join(root, 'build', `build${target === HERE ? '' : `-${target}`}.log`)
  const first = !existsSync(path.join(root, cmakeFolder, 'CMakeCache.txt'))
  const duration = cuda ? 'half an hour and more' : variants === 'all' ? 'five to ten minutes' : 'one to two minutes'
  console.log(
    `ggflux: compiling the addon${target === HERE ? '' : ` for ${target}`}${first || cuda ? ` (${duration} on two cores)` : ''}; the compiler's output goes to ${log}`,
  )
  mkdirSync(path.dirname(log), { recursive: true })
  rmSync(log, { force: true })

  const folder = path.resolve(root, cmakeFolder)
  const finished = path.resolve(root, output)
  const definitions = {
    CMAKE_BUILD_TYPE: debug ? 'Debug' : 'Release',
    ...(target !== HERE ? { CMAKE_TOOLCHAIN_FILE: toolchain } : {}),
    NODE_API_HEADERS: headers['node-api-headers'],
    NODE_ADDON_API: headers['node-addon-api'],
    GGFLUX_OUTPUT: finished,
    GGFLUX_CPU_VARIANTS: variants,
    ...(cuda ? cudaDefinitions(architectures) : {}),
    ...Object.fromEntries(define.map((text) => [text.split('=')[0], text.slice(text.indexOf('=') + 1)])),
  }
  const generator = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : []
  const configure = [
    ...['-S', root, '-B', folder, ...generator],
    ...Object.entries(definitions).map(([name, value]) => `-D${name}=${value}`),
  ]
  if (!cmake(configure, log)) {
    // a folder that was moved, or a cache that an interrupted run left unfinished, can only be thrown away
    rmSync(folder, { recursive: true, force: true })
    if (!cmake(configure, log)) fail(log, cuda)
  }
  const compile = ['--build', folder, '--config', debug ? 'Debug' : 'Release']
  if (!cmake([...compile, '--parallel', String(os.availableParallelism())], log)) fail(log, cuda)
  return finished
}

/** The include folders of the header packages, by package. */
function findHeaders() {
  const own = path.join(root, 'build', 'headers')
  const find = (from) => {
    const require = createRequire(from)
    return Object.fromEntries(
      Object.keys(HEADERS).map((name) => [name, path.dirname(require.resolve(`${name}/package.json`))]),
    )
  }
  try {
    return find(import.meta.url)
  } catch {
    console.log("ggflux: fetching the headers of Node's addon interface")
    mkdirSync(own, { recursive: true })
    const packages = Object.entries(HEADERS).map(([name, version]) => `${name}@${version}`)
    const options = ['--no-save', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error']
    const result = npm(['install', '--prefix', own, ...options, ...packages], root)
    if (result.status !== 0)
      throw new Error(
        `ggflux could not fetch ${packages.join(' and ')}:\n${(result.stderr ?? String(result.error)).trim()}\n` +
          'What to do: check the network or the proxy (npm config get proxy), and try again.',
      )
    return find(path.join(own, 'package.json'))
  }
}

const CUDA_TOOLKIT = "install NVIDIA's CUDA toolkit, with cuBLAS"

function nvcc() {
  return process.env.CUDACXX ?? (spawnSync('nvcc', ['--version']).status === 0 ? 'nvcc' : '/usr/local/cuda/bin/nvcc')
}

// For this machine's GPU, or, where none answers, for every generation that ggml knows.
function cudaDefinitions(architectures) {
  const here = spawnSync('nvidia-smi', ['-L']).status === 0 ? 'native' : ''
  const chosen = architectures || here
  // NCCL: only for several GPUs that share the work on one picture, which nothing here does
  return {
    GGML_CUDA: 'ON',
    GGML_CUDA_NCCL: 'OFF',
    CMAKE_CUDA_COMPILER: nvcc(),
    ...(chosen ? { CMAKE_CUDA_ARCHITECTURES: chosen } : {}),
  }
}

function cmake(args, log) {
  const output = openSync(log, 'a')
  try {
    // Paths below the project are cached as relative ones, so that another clone compiles from the same ccache.
    const env = { CCACHE_BASEDIR: root, ...process.env }
    return spawnSync('cmake', args, { cwd: root, stdio: ['ignore', output, output], env }).status === 0
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

runAsProgram(import.meta.url, () => {
  const { values } = parseArgs({
    options: {
      debug: { type: 'boolean' },
      variants: { type: 'string' },
      cuda: { type: 'boolean' },
      architectures: { type: 'string' },
      define: { type: 'string', short: 'D', multiple: true },
      target: { type: 'string' },
      output: { type: 'string' },
      'cmake-folder': { type: 'string' },
    },
  })
  build(values)
})
