/** Where the native parts are: the addon with the CPU's modules, and the modules of GPUs. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FluxError } from '../errors.js'
import { VERSION } from '../version.js'

/** The backends that have a module of their own, the preferred one first: the same GPU can have two. */
export const GPU_BACKENDS = ['cuda', 'metal', 'vulkan'] as const
export type GpuBackend = (typeof GPU_BACKENDS)[number]

/** A file that adds the devices of one GPU backend. */
export interface GpuModule {
  backend: GpuBackend
  file: string
  /** why none of its devices can be used */
  failure?: string
}

/** `linux-x64`, as npm names this platform. */
export const PLATFORM = `${process.platform}-${process.arch}`

/** The platforms that have a package, `@ggflux/linux-x64`, and those of its GPUs. scripts/packages.mjs makes them. */
export const PLATFORM_PACKAGES = ['linux-x64', 'linux-arm64', 'win32-x64', 'darwin-arm64', 'darwin-x64']
export const GPU_PACKAGES = ['linux-x64-cuda', 'linux-x64-vulkan', 'win32-x64-vulkan']

const FROM_SOURCE = 'npx ggflux setup --from-source'

const require = createRequire(import.meta.url)
/** The folder of this package, or of the clone. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/**
 * The path of the addon. It is looked for in the folder `GGFLUX_ADDON`, then in `build/Release`, which a source build
 * fills, then in the package of this platform.
 *
 * @throws {FluxError} FLUX_NOT_FOUND; the message says how to get it
 */
export function findAddon(): string {
  const folder = process.env.GGFLUX_ADDON ?? join(ROOT, 'build', 'Release')
  const compiled = join(folder, 'ggflux.node')
  if (process.env.GGFLUX_ADDON !== undefined || existsSync(compiled)) return compiled
  const name = `@ggflux/${PLATFORM}`
  const found = findPackage(name)
  if (found) return join(found, 'ggflux.node')
  throw new FluxError('FLUX_NOT_FOUND', missing(name))
}

/** The GPU modules that are installed: one compiled here, next to the addon, comes before that of a package. */
export function findGpuModules(): GpuModule[] {
  const beside = dirname(findAddon())
  return GPU_BACKENDS.flatMap((backend) => {
    const name = `@ggflux/${PLATFORM}-${backend}`
    let folder: string | undefined = join(beside, backend)
    try {
      if (!existsSync(folder)) folder = findPackage(name)
    } catch (error) {
      return [{ backend, file: name, failure: (error as Error).message }]
    }
    const file = folder && readdirSync(folder).find((name) => /^(lib)?ggml-\w+\.(so|dll|dylib)$/.test(name))
    return folder && file ? [{ backend, file: outsideArchive(join(folder, file)) }] : []
  })
}

/** The path that the system's loader needs: in Electron, files inside an archive have a copy outside of it. */
export function outsideArchive(file: string): string {
  return file.replace(/app\.asar(?!\.unpacked)/, 'app.asar.unpacked')
}

/** What scripts/packages.mjs writes into the package.json of a package with binaries. */
interface Manifest {
  version: string
  /** bytes of each file: a library that was cut off ends the process when it is loaded */
  sizes?: Record<string, number>
}

/**
 * The folder of an installed package of the same version; undefined if it is not installed.
 *
 * @throws {FluxError} FLUX_NOT_FOUND if it is installed in another version, or incomplete
 */
export function findPackage(name: string): string | undefined {
  let manifest: string
  try {
    manifest = require.resolve(`${name}/package.json`)
  } catch {
    return undefined
  }
  const { version, sizes = {} } = JSON.parse(readFileSync(manifest, 'utf8')) as Manifest
  if (version !== VERSION)
    throw new FluxError(
      'FLUX_NOT_FOUND',
      `${name} is version ${version} and ggflux is version ${VERSION}; run: npm install ggflux@${VERSION} ${name}@${VERSION}`,
    )
  const folder = dirname(manifest)
  for (const [file, bytes] of Object.entries(sizes)) {
    const found = statSync(outsideArchive(join(folder, file)), { throwIfNoEntry: false })?.size
    if (found !== bytes)
      throw new FluxError(
        'FLUX_NOT_FOUND',
        `${name} is incomplete: ${file} ${found === undefined ? 'is missing' : `has ${found} of ${bytes} bytes`}; install it again: npm install --force ${name}@${VERSION}`,
      )
  }
  return folder
}

function missing(name: string): string {
  return (
    withoutPackage(PLATFORM, glibcVersion()) ??
    `the package ${name} is missing; npm leaves it out with --omit=optional, or when node_modules was made on another platform. ` +
      `Run: npm install ${name}@${VERSION}`
  )
}

/** One sentence for a platform that has no package, with a remedy; undefined if it has one. */
export function withoutPackage(platform: string, glibc: string | undefined): string | undefined {
  const compile = `compile it with CMake, git and a C++ compiler: ${FROM_SOURCE}`
  if (!PLATFORM_PACKAGES.includes(platform)) return `there is no prebuilt ggflux for ${platform}; ${compile}`
  if (platform.startsWith('linux') && !glibc)
    return `the prebuilt ggflux for Linux needs glibc, which this system (musl, such as Alpine) does not have; use an image based on Debian or Ubuntu, or ${compile}`
  return undefined
}

/** The version of glibc, such as '2.36'; undefined on systems without it. */
export function glibcVersion(): string | undefined {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime
}

/**
 * One sentence for a file that the system's loader refused.
 *
 * @param cause what the loader said
 */
export function loaderRemedy(cause: string): string | undefined {
  const needed = /version [`']GLIBC_([\d.]+)'/.exec(cause)?.[1]
  if (needed)
    return `the prebuilt ggflux needs glibc ${needed} or newer and this system has ${glibcVersion() ?? 'none'}; use Debian 12, Ubuntu 22.04 or newer, or compile it here: ${FROM_SOURCE}`
  if (/libstdc\+\+/.test(cause))
    return `libstdc++ is missing or too old; install it (Debian, Ubuntu: apt install libstdc++6), or compile ggflux here: ${FROM_SOURCE}`
  return undefined
}
