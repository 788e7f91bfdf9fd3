/** What this machine can compute with, what is missing, and what to do about it. */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { nativeAddon, type NativeDrivers } from './addon.js'
import { askDrivers, type TrialOptions } from './device-trials.js'
import { chooseDevice, devices, LEAST_CUDA, loadGpus, type Device, type ModuleState } from './devices.js'
import { PLATFORM, type GpuBackend } from './locate.js'

export interface Diagnosis {
  devices: Device[]
  /** the name of the device that 'auto' takes */
  auto: string
  /** the installed GPU modules */
  modules: ModuleState[]
  drivers: NativeDrivers
  /** how asking the drivers failed, or '' */
  driverFailure: string
  /** makers of the graphics cards on the bus; known on Linux only */
  cards: string[]
  /** sentences: what is missing, and the command that helps */
  advice: string[]
}

/**
 * @throws {FluxError} FLUX_NOT_FOUND if the addon itself cannot be loaded
 */
export async function diagnose(options: TrialOptions = {}): Promise<Diagnosis> {
  // asked in a child process, so that a driver that fails does not end this one
  const { drivers, failure: driverFailure } = await askDrivers()
  const usable = driverFailure ? 'cpu' : 'auto'
  const { name: auto } = await chooseDevice(usable, options)
  const { modules } = driverFailure ? { modules: [] } : await loadGpus()
  const found = driverFailure ? nativeAddon().devices() : await devices()
  const facts = { devices: found, auto, modules, drivers, driverFailure, cards: graphicsCards() }
  return { ...facts, advice: advise(facts) }
}

/** @param facts what was found; `platform` is for tests */
export function advise(
  { devices, auto, modules, drivers, driverFailure, cards }: Omit<Diagnosis, 'advice'>,
  platform = PLATFORM,
): string[] {
  const chosen = devices.find(({ name }) => name === auto)
  const advice = devices.flatMap(({ name, description, refused }) =>
    refused ? [`${name} (${description}) is not used: ${refused}.`] : [],
  )
  for (const { backend, failure, noDriver } of modules)
    if (failure && !noDriver) advice.push(`The ${backend} module cannot be used: ${failure}. ${remedy(failure)}`.trim())
  if (chosen?.kind === 'gpu') return advice
  if (driverFailure)
    return [`No GPU is used, because a driver failed: ${driverFailure}. Update or remove it.`, ...advice]
  const installed = (backend: GpuBackend) => modules.some((module) => module.backend === backend)
  const windows = platform.startsWith('win32')
  const { cuda, vulkan } = drivers
  const hardware = vulkan?.filter(({ kind }) => kind !== 'software') ?? []

  if (platform.startsWith('darwin')) {
    if (!installed('metal')) advice.push('GPUs are used on Apple silicon only; this Mac computes with its CPU.')
    return advice
  }
  if (cuda && cuda.version < LEAST_CUDA) {
    advice.push(
      `NVIDIA's driver ${cuda.driver} supports CUDA ${cudaVersion(cuda.version)}, and ggflux needs 13.0: update the driver to version 580 or newer, or use Vulkan (npx ggflux setup vulkan).`,
    )
  } else if (cuda && !installed('cuda')) {
    advice.push(
      `This machine has NVIDIA's driver ${cuda.driver}, but the CUDA module is not installed. Run: npx ggflux setup`,
    )
  }
  if (hardware.length > 0 && !installed('vulkan') && !cuda) {
    const names = hardware.map(({ name }) => name).join(', ')
    advice.push(`Vulkan knows ${names}, but the Vulkan module is not installed. Run: npx ggflux setup`)
  }
  if (hardware.length === 0 && !cuda) advice.push(...missingDriver(vulkan !== undefined, cards, windows))
  const software = vulkan?.filter(({ kind }) => kind === 'software').map(({ name }) => name) ?? []
  if (software.length > 0 && hardware.length === 0)
    advice.push(`${software.join(', ')} imitates a graphics card on the CPU, and is slower than the CPU itself.`)
  return advice
}

function missingDriver(loader: boolean, cards: string[], windows: boolean): string[] {
  if (windows) {
    return [
      'No driver of a graphics card was found. If this PC has a card from AMD, Intel or NVIDIA, install the driver from its maker; the one that Windows brings may lack Vulkan.',
    ]
  }
  const first = loader ? '' : 'The Vulkan loader is not installed. '
  const packages = loader ? '' : 'libvulkan1 '
  if (cards.includes('NVIDIA'))
    return [
      `${first}This machine has a graphics card from NVIDIA, but no driver that answers. Install NVIDIA's driver, version 580 or newer (Ubuntu: sudo ubuntu-drivers install), then run: npx ggflux setup`,
    ]
  if (cards.includes('AMD') || cards.includes('Intel'))
    return [
      `${first}This machine has a graphics card from ${cards.join(' and ')}. Install its driver (Debian, Ubuntu: sudo apt install ${packages}mesa-vulkan-drivers; Fedora: sudo dnf install mesa-vulkan-drivers).`,
    ]
  return ['No graphics card was found. ggflux computes with the CPU.']
}

function remedy(failure: string): string {
  if (/lib(cudart|cublas)/.test(failure))
    return "Install the libraries of CUDA 13 (Debian, Ubuntu, from NVIDIA's repository: sudo apt install cuda-libraries-13-0), or put their folder into LD_LIBRARY_PATH."
  if (/MSVCP140|VCRUNTIME140|specified module could not be found/i.test(failure))
    return "Install Microsoft's Visual C++ runtime: winget install Microsoft.VCRedist.2015+.x64"
  return ''
}

/** 13020 is 13.2. */
export function cudaVersion(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`
}

const MAKERS: Record<string, string> = { '0x10de': 'NVIDIA', '0x1002': 'AMD', '0x8086': 'Intel' }

/** @param folder where Linux lists its graphics cards */
export function graphicsCards(folder = '/sys/class/drm'): string[] {
  const makers = new Set<string>()
  try {
    for (const card of readdirSync(folder).filter((name) => /^card\d+$/.test(name))) {
      const maker = MAKERS[readFileSync(join(folder, card, 'device', 'vendor'), 'utf8').trim()]
      if (maker) makers.add(maker)
    }
  } catch {
    // another system, or a container
  }
  return [...makers].sort()
}
