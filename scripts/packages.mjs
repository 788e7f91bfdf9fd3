// Makes the npm packages of a release in one folder: `ggflux`, the binaries of each platform, and the modules of GPUs.
//   npm run packages -- [--only linux-x64,ggflux] [--variants all|native] [--cuda build/cuda] [--out packages]
// A package that this machine cannot make is listed with the reason; if --only names it, that is an error.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build, HERE } from './build.mjs'
import { ensureGgml, npm } from './ggml.mjs'
import { gpuModules, takeGpuModule } from './gpu-module.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
const { version } = manifest

/** The platforms that have a package with the addon and ggml's CPU variants, as in lib/native/locate.ts. */
const PLATFORMS = {
  'linux-x64': 'Linux on x64 processors',
  'linux-arm64': 'Linux on Arm processors',
  'win32-x64': 'Windows on x64 processors',
  'darwin-arm64': 'macOS on Apple silicon, with Metal',
  'darwin-x64': 'macOS on Intel processors',
}
/** The packages that hold one GPU module. Vulkan's are taken from npm, CUDA's are compiled before and given by --cuda. */
const GPUS = {
  'linux-x64-vulkan': 'Vulkan on Linux',
  'win32-x64-vulkan': 'Vulkan on Windows',
  'linux-x64-cuda': 'NVIDIA GPUs on Linux, with CUDA 13',
  'win32-x64-cuda': 'NVIDIA GPUs on Windows, with CUDA 13',
}
// The names of compiled files, on every platform.
const BINARY = /\.(node|so|dll|dylib)$/

/** What `ggflux` installs where it fits. CUDA's module is too large for everyone: `ggflux setup` installs it. */
const optionalDependencies = Object.fromEntries(
  [...Object.keys(PLATFORMS), ...Object.keys(gpuModules)].sort().map((name) => [`@ggflux/${name}`, version]),
)

function main() {
  const { values: options } = parseArgs({
    options: {
      only: { type: 'string' },
      variants: { type: 'string', default: 'all' },
      cuda: { type: 'string' },
      out: { type: 'string', default: 'packages' },
    },
  })
  const all = ['ggflux', ...Object.keys(PLATFORMS), ...Object.keys(GPUS)]
  const only = options.only?.split(',').map((name) => name.replace('@ggflux/', ''))
  const unknown = only?.find((name) => !all.includes(name))
  if (unknown) throw new Error(`there is no package '${unknown}'. What to do: use some of these: ${all.join(', ')}.`)

  const out = path.resolve(root, options.out)
  mkdirSync(out, { recursive: true })
  const packages = []
  const leftOut = []
  for (const name of only ?? all) {
    const reason = obstacle(name, options.cuda)
    if (reason) leftOut.push({ name: fullName(name), reason })
    else packages.push(pack(name, options, out))
  }
  writeFileSync(path.join(out, 'manifest.json'), `${JSON.stringify({ version, packages, leftOut }, null, 2)}\n`)
  report(packages, leftOut)
  if (only && leftOut.length > 0) throw new Error('not every package that --only names could be made.')
}

function fullName(name) {
  return name === 'ggflux' ? name : `@ggflux/${name}`
}

/** Why this machine cannot make a package; undefined if it can. */
function obstacle(name, cuda) {
  if (name === 'ggflux')
    return ['index.js', 'page/index.html'].every((file) => existsSync(path.join(root, 'dist', file)))
      ? undefined
      : 'dist/ is missing or incomplete; run: npm run build:ts && npm run build:page'
  if (name in GPUS)
    return name in gpuModules || cudaModule(name, cuda)
      ? undefined
      : 'no compiled module; compile it with `npm run build:cuda -- --output build/cuda` and give its folder: --cuda build/cuda'
  if (name === HERE) return undefined
  const toolchain = path.join('native', 'toolchains', `${name}.cmake`)
  if (!existsSync(path.join(root, toolchain))) return `it is made on ${name} itself; ${HERE} has no ${toolchain}`
  const compiler = /CMAKE_CXX_COMPILER\s+"?([^\s")]+)/.exec(readFileSync(path.join(root, toolchain), 'utf8'))?.[1]
  if (compiler && spawnSync(compiler, ['--version']).status !== 0) return `the compiler ${compiler} is not installed`
  return undefined
}

/** The compiled CUDA module for the platform, in the given folder or in its folder cuda/. */
function cudaModule(name, given) {
  const file = name.startsWith('win32') ? 'ggml-cuda.dll' : 'libggml-cuda.so'
  const folder = given && path.resolve(root, given)
  return (
    folder && [folder, path.join(folder, 'cuda')].map((each) => path.join(each, file)).find((each) => existsSync(each))
  )
}

/** Returns the package's entry in manifest.json. */
function pack(name, { variants, cuda }, out) {
  console.log(`packages: ${fullName(name)}`)
  const folder = path.join(root, 'build', 'packages', 'staged', name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const taken = name === 'ggflux' ? stageMain(folder) : stageBinaries(name, folder, variants, cuda)
  const result = npm(['pack', '--json', '--ignore-scripts', '--pack-destination', out], folder)
  if (result.status !== 0) throw new Error(`npm could not pack ${folder}:\n${result.stderr}`)
  const [{ filename, size, unpackedSize, integrity, files }] = JSON.parse(result.stdout)
  return {
    name: fullName(name),
    version,
    file: filename.replace('@', '').replace('/', '-'),
    size,
    unpackedSize,
    integrity,
    contains:
      name === 'ggflux' ? `${files.length} files` : files.map((file) => file.path).filter((file) => BINARY.test(file)),
    ...(taken ? { taken } : {}),
  }
}

/** The files that package.json names, and a manifest without scripts and without what only a clone needs. */
function stageMain(folder) {
  const listed = npm(['pack', '--dry-run', '--json', '--ignore-scripts'], root)
  if (listed.status !== 0) throw new Error(`npm could not list the files of ggflux:\n${listed.stderr}`)
  for (const file of JSON.parse(listed.stdout)[0].files)
    cpSync(path.join(root, file.path), path.join(folder, file.path))
  const { scripts, devDependencies, overrides, ...own } = manifest
  writeManifest(folder, { ...own, optionalDependencies, ...repository() })
}

/** Returns where the file is from, if others compiled it. */
function stageBinaries(name, folder, variants, cuda) {
  const [os, cpu] = name.split('-')
  const main = PLATFORMS[name] !== undefined
  const taken = main ? stageBuild(name, folder, variants) : stageModule(name, folder, cuda)
  cpSync(path.join(root, 'LICENSE'), path.join(folder, 'LICENSE'))
  cpSync(path.join(ensureGgml(root), 'LICENSE'), path.join(folder, 'LICENSE-ggml'))
  const notices = 'THIRD_PARTY_NOTICES.md' // of what the compiler puts into binaries
  if (existsSync(path.join(root, notices))) cpSync(path.join(root, notices), path.join(folder, notices))
  if (taken) writeFileSync(path.join(folder, 'LICENSE-node-llama-cpp'), taken.license)
  const title = main ? PLATFORMS[name] : GPUS[name]
  const origin = taken
    ? `Its module was compiled by node-llama-cpp (${taken.taken.package}, ggml ${taken.taken.ggml}).`
    : 'Compiled from the sources in ggflux.'
  writeFileSync(
    path.join(folder, 'README.md'),
    `# ${fullName(name)}\n\nThe native part of [ggflux](https://www.npmjs.com/package/ggflux) for ${title}. ${origin}\n` +
      `${main || !name.endsWith('cuda') ? 'npm chooses it when you install ggflux.' : 'Install it with `npx ggflux setup cuda`.'}\n`,
  )
  writeManifest(folder, {
    name: fullName(name),
    version,
    description: `ggflux's native part for ${title}`,
    license: manifest.license,
    ...repository(),
    os: [os],
    cpu: [cpu],
    ...(os === 'linux' ? { libc: ['glibc'] } : {}),
    engines: manifest.engines,
    preferUnplugged: true,
    // lib/native/locate.ts compares them before it loads a file
    sizes: Object.fromEntries(
      readdirSync(folder, { recursive: true })
        .filter((file) => BINARY.test(file))
        .map((file) => [file.replaceAll(path.sep, '/'), statSync(path.join(folder, file)).size]),
    ),
  })
  return taken?.taken
}

function stageBuild(name, folder, variants) {
  const output = path.join('build', 'packages', name)
  rmSync(path.join(root, output), { recursive: true, force: true }) // variants that were chosen before
  const finished = build({
    variants,
    target: name,
    output,
    'cmake-folder': path.join('build', 'cmake-packages', `${name}-${variants}`),
    define: ['GGFLUX_STRIP=ON'],
  })
  for (const file of readdirSync(finished, { recursive: true }).filter((file) => BINARY.test(file)))
    cpSync(path.join(finished, file), path.join(folder, file))
}

function stageModule(name, folder, cuda) {
  if (name in gpuModules) {
    const [, , backend] = name.split('-')
    return takeGpuModule(backend, { target: name.replace(`-${backend}`, ''), output: folder })
  }
  const file = cudaModule(name, cuda)
  cpSync(file, path.join(folder, path.basename(file)))
}

// npm's proof of where a package was built compares this with the repository of the workflow.
function repository() {
  const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env
  if (!GITHUB_SERVER_URL || !GITHUB_REPOSITORY) return {}
  return { repository: { type: 'git', url: `git+${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}.git` } }
}

function writeManifest(folder, content) {
  writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`)
}

function report(packages, leftOut) {
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`
  const width = Math.max(...[...packages, ...leftOut].map(({ name }) => name.length))
  console.log(`\n${'PACKAGE'.padEnd(width)}  ${'PACKED'.padStart(8)}  ${'UNPACKED'.padStart(8)}  CONTAINS`)
  for (const { name, size, unpackedSize, contains, taken } of packages) {
    const what = Array.isArray(contains)
      ? contains.length > 6
        ? `${contains.length} libraries`
        : contains.join(', ')
      : contains
    console.log(
      `${name.padEnd(width)}  ${megabytes(size).padStart(8)}  ${megabytes(unpackedSize).padStart(8)}  ${what}${taken ? `, from ${taken.package}` : ''}`,
    )
  }
  for (const { name, reason } of leftOut) console.log(`${name.padEnd(width)}  left out: ${reason}`)
}

try {
  main()
} catch (error) {
  console.error(`\n${error.message}\n`)
  process.exit(1)
}
