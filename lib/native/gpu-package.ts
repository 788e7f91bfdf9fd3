/** Which of the packages with binaries fits a machine. Nothing here loads the addon. */

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { FluxError } from '../errors.js'
import { GPU_PACKAGES, glibcVersion, PLATFORM, withoutPackage } from './locate.js'

export interface Machine {
  /** `linux-x64` */
  platform: string
  /** undefined on systems without it */
  glibc: string | undefined
  /** the version of NVIDIA's driver; undefined if none answers */
  nvidia: string | undefined
  /** a Vulkan loader is installed */
  vulkan: boolean
  /** there may be a graphics card */
  card: boolean
}

/** What `ggflux setup` can install: `cpu` is the package of the platform, which on Apple silicon includes Metal. */
export const SETUPS = ['cuda', 'vulkan', 'cpu'] as const
export type Setup = (typeof SETUPS)[number]

/** The oldest driver that runs CUDA 13. */
const CUDA_DRIVER = 580

/** What the GPU modules need. */
const MODULE_GLIBC = '2.34'

function olderThan(version: string, other: string): boolean {
  const number = (text: string) => Number(text.split('.')[0]) * 1000 + Number(text.split('.')[1])
  return number(version) < number(other)
}

/** @param root where this system's files are, for tests */
export function examineMachine(root = '/'): Machine {
  return {
    platform: PLATFORM,
    glibc: glibcVersion(),
    nvidia: nvidiaDriver(root),
    vulkan: hasVulkan(root),
    card: hasCard(root),
  }
}

function nvidiaDriver(root: string): string | undefined {
  const file = join(root, 'proc', 'driver', 'nvidia', 'version')
  if (existsSync(file)) return /NVRM version:.*?\s(\d+\.[\d.]+)\s/.exec(readFileSync(file, 'utf8'))?.[1]
  // Windows, and Linux inside of it
  const { stdout } = spawnSync('nvidia-smi', ['--query-gpu=driver_version', '--format=csv,noheader'], {
    encoding: 'utf8',
  })
  return /^\d+\.[\d.]+/.exec(stdout ?? '')?.[0]
}

function hasVulkan(root: string): boolean {
  if (process.platform === 'win32')
    return existsSync(join(process.env.SystemRoot ?? 'C:\\Windows', 'System32', 'vulkan-1.dll'))
  const folders = ['usr/lib/x86_64-linux-gnu', 'usr/lib/aarch64-linux-gnu', 'usr/lib64', 'usr/lib', 'usr/local/lib']
  const own = (process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean)
  return [...folders.map((folder) => join(root, folder)), ...own].some((folder) =>
    existsSync(join(folder, 'libvulkan.so.1')),
  )
}

/** Linux lists graphics cards; a virtual machine or a server may have a loader and none. */
function hasCard(root: string): boolean {
  if (process.platform !== 'linux') return true
  const others = ['dev/dxg', 'dev/nvidiactl', 'proc/driver/nvidia'] // dxg: Linux inside Windows
  if (others.some((path) => existsSync(join(root, path)))) return true
  const folder = join(root, 'dev', 'dri')
  return existsSync(folder) && readdirSync(folder).some((name) => name.startsWith('renderD'))
}

/**
 * Returns the name of the package that fits the machine.
 *
 * @param wanted undefined chooses: CUDA before Vulkan before the CPU
 * @throws {FluxError} FLUX_UNSUPPORTED if there is no such package, or it could not work here
 */
export function choosePackage(wanted: Setup | undefined, machine: Machine): string {
  const { platform, glibc } = machine
  const unsupported = withoutPackage(platform, glibc)
  if (unsupported) throw new FluxError('FLUX_UNSUPPORTED', unsupported)
  const chosen =
    wanted ??
    (['cuda', 'vulkan'] as const).find((backend) => machine.card && gpuObstacle(backend, machine) === undefined) ??
    'cpu'
  if (chosen === 'cpu') return `@ggflux/${platform}`
  const obstacle = gpuObstacle(chosen, machine)
  if (obstacle) throw new FluxError('FLUX_UNSUPPORTED', obstacle)
  return `@ggflux/${platform}-${chosen}`
}

function gpuObstacle(backend: 'cuda' | 'vulkan', { platform, glibc, nvidia, vulkan }: Machine): string | undefined {
  const name = backend === 'cuda' ? 'CUDA' : 'Vulkan'
  if (!GPU_PACKAGES.includes(`${platform}-${backend}`)) {
    const others = GPU_PACKAGES.filter((each) => each.startsWith(`${platform}-`)).map((each) => each.split('-')[2])
    return `there is no package with ${name} for ${platform}; ${
      platform === 'darwin-arm64'
        ? 'Metal is part of its package, and needs no setup'
        : others.length > 0
          ? `there is one with ${others.join(' and ')}: npx ggflux setup ${others[0]}`
          : 'it computes on the CPU'
    }`
  }
  if (glibc && olderThan(glibc, MODULE_GLIBC))
    return `the module for ${name} needs glibc ${MODULE_GLIBC} and this system has ${glibc}; use Debian 12, Ubuntu 22.04 or newer, or the CPU`
  if (backend === 'vulkan')
    return vulkan
      ? undefined
      : 'no Vulkan loader was found; install the driver of the GPU, and the loader (Debian, Ubuntu: apt install libvulkan1 mesa-vulkan-drivers)'
  if (!nvidia)
    return "no NVIDIA driver answers; install NVIDIA's driver, version 580 or newer, or use npx ggflux setup vulkan"
  if (Number.parseInt(nvidia, 10) >= CUDA_DRIVER) return undefined
  return `the NVIDIA driver is version ${nvidia} and CUDA 13 needs ${CUDA_DRIVER} or newer; update the driver, or use npx ggflux setup vulkan`
}
