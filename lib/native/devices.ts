import { FluxError } from '../errors.js'
import { nativeAddon, type NativeDevice, type NativeDrivers } from './addon.js'
import { tryModule, vulkanDevice } from './device-trials.js'
import { freeMemory } from './free-memory.js'
import { findGpuModules, GPU_BACKENDS, type GpuBackend, type GpuModule } from './locate.js'
import { parseRpcAddress } from './rpc-client.js'

export interface Device extends NativeDevice {
  /** name and version of a GPU's driver, as far as it is known */
  driver?: string
  /** why the device cannot be used; a GPU is tried once for each version of its driver, in a process of its own */
  refused?: string
}

/** An integrated GPU with less memory than this is not chosen by 'auto': no FLUX model fits. In bytes. */
export const LEAST_INTEGRATED_MEMORY = 8e9

/** A GPU module and what became of it. */
export interface ModuleState extends GpuModule {
  /** why none of its devices is there; undefined if it was loaded */
  failure?: string
  /** its library that leads to the driver is not installed, which is usual on a machine without such a GPU */
  noDriver?: boolean
}

interface Loaded {
  modules: ModuleState[]
  /** by name of the device: why it cannot be used, or '' */
  trials: Record<string, string>
  drivers: NativeDrivers
}

let loading: Promise<Loaded> | undefined

/** Loads the modules of all GPUs whose drivers did not fail in a trial, once per thread. */
export function loadGpus(onTrial?: (device: string) => void): Promise<Loaded> {
  return (loading ??= load(onTrial).catch((error: unknown) => {
    loading = undefined
    throw error
  }))
}

async function load(onTrial: ((device: string) => void) | undefined): Promise<Loaded> {
  const result: Loaded = { modules: [], trials: {}, drivers: {} }
  const libraries = { metal: true, ...nativeAddon().driverLibraries() }
  for (const module of findGpuModules()) {
    if (!libraries[module.backend]) {
      result.modules.push({ ...module, failure: NO_DRIVER[module.backend], noDriver: true })
      continue
    }
    const { failure, devices, drivers } = await tryModule(module, onTrial)
    const refused = failure || tooOld(module, drivers) || nativeAddon().loadModule(module.file)
    result.modules.push(refused ? { ...module, failure: refused } : module)
    result.trials = { ...result.trials, ...devices }
    result.drivers = drivers
  }
  return result
}

/** The first version of CUDA that the CUDA module works with. */
export const LEAST_CUDA = 13000

function tooOld({ backend }: GpuModule, { cuda }: NativeDrivers): string {
  const old = backend === 'cuda' && cuda && cuda.version < LEAST_CUDA
  return old ? `NVIDIA's driver ${cuda.driver} is older than CUDA 13; update it to version 580 or newer` : ''
}

const NO_DRIVER: Record<GpuBackend, string> = {
  cuda: "NVIDIA's driver is not installed",
  vulkan: 'the Vulkan loader is not installed',
  metal: '',
}

/**
 * The devices that can compute on this machine, found at run time. The CPU is always included. A GPU that was never
 * used with this version of its driver is tried first, in a child process, which takes seconds.
 */
export async function devices(): Promise<Device[]> {
  const { trials, drivers } = await loadGpus()
  return nativeAddon()
    .devices()
    .map((device) => {
      if (device.kind === 'cpu') return { ...device, memoryFree: freeMemory() }
      const driver = driverOf(device, drivers)
      const refused = trials[device.name] ?? 'it appeared after the others were tried; start again'
      return { ...device, ...(driver ? { driver } : {}), ...(refused ? { refused } : {}) }
    })
}

function driverOf(device: NativeDevice, drivers: NativeDrivers): string | undefined {
  if (device.backend === 'CUDA') return drivers.cuda?.driver && `NVIDIA ${drivers.cuda.driver}`
  return vulkanDevice(device, drivers)?.driver
}

/** What {@link chooseDevice} decided. */
export interface ChosenDevice {
  /** a device's name, or an RPC server's address unchanged */
  name: string
  /** for 'auto' and 'gpu': sentences about GPUs that cannot be used */
  warnings: string[]
}

/**
 * Chooses the device that `backend` means. 'auto' takes the GPU with the most free memory, one with its own memory
 * before an integrated one, or else the CPU.
 *
 * @param onTrial called with the name of a GPU that is tried because it was never used before
 * @throws {FluxError} FLUX_DEVICE if there is no such device, or it cannot be used; FLUX_BAD_OPTION for an invalid
 *   address
 */
export async function chooseDevice(
  backend: string = 'auto',
  onTrial?: (device: string) => void,
): Promise<ChosenDevice> {
  if (parseRpcAddress(String(backend))) return { name: backend, warnings: [] }
  const wanted = String(backend).toLowerCase()
  // no GPU's driver is touched for the CPU
  if (wanted === 'cpu') return { name: cpuName(), warnings: [] }
  const { modules } = await loadGpus(onTrial)
  const all = await devices()
  const warnings = [
    ...modules.flatMap(({ file, failure, noDriver }) =>
      failure && !noDriver ? [`the GPU module ${file} cannot be used: ${failure}`] : [],
    ),
    ...all.flatMap(({ name, description, refused }) =>
      refused ? [`the GPU ${name} (${description}) cannot be used: ${refused}`] : [],
    ),
  ]
  if (wanted === 'auto') return { name: preferredGpu(all, LEAST_INTEGRATED_MEMORY)?.name ?? cpuName(), warnings }
  if (wanted === 'gpu') {
    const gpu = preferredGpu(all)
    if (gpu) return { name: gpu.name, warnings }
    throw new FluxError('FLUX_DEVICE', ['there is no GPU to compute with', ...warnings, HINT].join('; '))
  }
  const named = all.find(({ name }) => name.toLowerCase() === wanted)
  if (named?.refused)
    throw new FluxError('FLUX_DEVICE', `${named.name} (${named.description}) cannot be used: ${named.refused}; ${HINT}`)
  if (named) return { name: named.name, warnings: [] }
  const names = all.map(({ name }) => name).join(', ')
  throw new FluxError(
    'FLUX_DEVICE',
    `there is no device for the backend '${backend}'; 'auto', 'cpu', 'gpu', 'rpc://host:port' or one of these is possible: ${names}`,
  )
}

const HINT = "'ggflux doctor' says more"

function cpuName(): string {
  const cpu = nativeAddon()
    .devices()
    .find(({ kind }) => kind === 'cpu')
  if (!cpu) throw new FluxError('FLUX_DEVICE', "the CPU's module is missing beside the addon; install ggflux again")
  return cpu.name
}

/**
 * The usable GPU that is probably the fastest: one with its own memory before an integrated one, then by backend, as the
 * same GPU can be there twice, then the one with the most free memory.
 *
 * @param leastIntegrated bytes that an integrated GPU must have
 */
export function preferredGpu(devices: readonly Device[], leastIntegrated = 0): Device | undefined {
  const backend = ({ backend }: Device) => {
    const known = GPU_BACKENDS.indexOf((backend === 'MTL' ? 'metal' : backend.toLowerCase()) as GpuBackend)
    return known < 0 ? GPU_BACKENDS.length : known
  }
  return devices
    .filter(({ kind, refused }) => kind === 'gpu' && !refused)
    .filter(({ integrated, memoryTotal }) => !integrated || memoryTotal >= leastIntegrated)
    .sort(
      (a, b) => Number(a.integrated) - Number(b.integrated) || backend(a) - backend(b) || b.memoryFree - a.memoryFree,
    )[0]
}
