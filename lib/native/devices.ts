import { FluxError } from '../errors.js'
import { untilAborted } from '../options/abort.js'
import { nativeAddon, type NativeDevice, type NativeDrivers } from './addon.js'
import { knownResult, tryModule, vulkanDevice, type TrialOptions } from './device-trials.js'
import { freeMemory } from './free-memory.js'
import { findGpuModules, GPU_BACKENDS, type GpuBackend, type GpuModule } from './locate.js'
import { parseRpcAddress } from './rpc-client.js'
import type { TrialResult } from './trial-cache.js'

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
  /** its driver is not installed, which is usual on a machine without such a GPU */
  noDriver?: boolean
}

interface Loaded {
  modules: ModuleState[]
  /** by name of the device */
  trials: TrialResult['devices']
  drivers: NativeDrivers
}

interface Loading {
  result: Promise<Loaded>
  controller: AbortController
  /** calls that wait for the result */
  waiting: number
  done: boolean
}

let loading: Loading | undefined

/**
 * Loads the modules of all GPUs whose drivers did not fail in a trial, once per thread.
 *
 * @param options `signal` ends a trial that nobody else waits for
 */
export async function loadGpus({ onTrial, signal }: TrialOptions = {}): Promise<Loaded> {
  signal?.throwIfAborted()
  const own = (loading ??= begin(onTrial))
  own.waiting++
  try {
    const loaded = await untilAborted(own.result, signal)
    own.done = true
    return loaded
  } finally {
    if (--own.waiting === 0 && !own.done) {
      own.controller.abort(signal?.reason)
      if (loading === own) loading = undefined // the next call begins anew
    }
  }
}

function begin(onTrial: TrialOptions['onTrial']): Loading {
  const controller = new AbortController()
  const result = load({ signal: controller.signal, ...(onTrial ? { onTrial } : {}) })
  result.catch(() => {}) // reported to those who wait
  return { result, controller, waiting: 0, done: false }
}

async function load(options: TrialOptions): Promise<Loaded> {
  const result: Loaded = { modules: [], trials: {}, drivers: {} }
  const libraries = { metal: true, ...nativeAddon().driverLibraries() }
  for (const module of findGpuModules()) {
    if (module.failure !== undefined) {
      result.modules.push(module)
      continue
    }
    if (!libraries[module.backend]) {
      result.modules.push({ ...module, failure: NO_DRIVER[module.backend], noDriver: true })
      continue
    }
    let trial = knownResult(module) ?? (await tryModule(module, options))
    let failure = noDevice(module, trial) || trial.failure || tooOld(module, trial.drivers)
    failure ||= nativeAddon().loadModule(module.file)
    // a card that was not there when the others were tried
    if (!failure && devicesOf(module).some((device) => !isTried(device, trial)))
      trial = await tryModule(module, options)
    result.modules.push(failure ? { ...module, failure, noDriver: failure === NO_DEVICE } : module)
    result.trials = { ...result.trials, ...trial.devices }
    result.drivers = { ...result.drivers, ...trial.drivers }
  }
  return result
}

function devicesOf({ backend }: GpuModule): NativeDevice[] {
  return nativeAddon()
    .devices()
    .filter((device) => backendOf(device) === backend)
}

/** The name of the module that a device is from. */
function backendOf({ backend }: NativeDevice): string {
  return backend === 'MTL' ? 'metal' : backend.toLowerCase()
}

const isTried = ({ name, description }: NativeDevice, { devices }: TrialResult) =>
  devices[name]?.description === description

const NO_DEVICE = 'no driver of a GPU is installed'

/** ggml's Vulkan module fails where there is a loader without a driver, as on most servers. */
function noDevice({ backend }: GpuModule, { failure, drivers }: TrialResult): string {
  return failure && backend === 'vulkan' && drivers.vulkan?.length === 0 ? NO_DEVICE : ''
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
export async function devices(options: TrialOptions = {}): Promise<Device[]> {
  const { trials, drivers } = await loadGpus(options)
  return nativeAddon()
    .devices()
    .map((device) => {
      if (device.kind === 'cpu') return { ...device, memoryFree: freeMemory() }
      const driver = driverOf(device, drivers)
      const refused = trials[device.name]?.failure ?? 'it was not tried; start the program again'
      return { ...device, ...(driver ? { driver } : {}), ...(refused ? { refused } : {}) }
    })
}

/** Sentences about GPU modules and GPUs that cannot be used. */
export function gpuWarnings(modules: readonly ModuleState[], devices: readonly Device[]): string[] {
  return [
    ...modules.flatMap(({ backend, failure, noDriver }) =>
      failure && !noDriver ? [`the ${backend} module for GPUs cannot be used: ${failure}`] : [],
    ),
    ...devices.flatMap(({ name, description, refused }) =>
      refused ? [`the GPU ${name} (${description}) cannot be used: ${refused}`] : [],
    ),
  ]
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
 * Chooses the device that `backend` means. 'auto' takes the GPU that is probably the fastest, or else the CPU.
 *
 * @throws {FluxError} FLUX_DEVICE if there is no such device, or it cannot be used; FLUX_BAD_OPTION for an invalid
 *   address; the signal's reason when aborted
 */
export async function chooseDevice(backend: string = 'auto', options: TrialOptions = {}): Promise<ChosenDevice> {
  if (parseRpcAddress(String(backend))) return { name: backend, warnings: [] }
  const wanted = String(backend).toLowerCase()
  // no GPU's driver is touched for the CPU
  if (wanted === 'cpu') return { name: cpuName(), warnings: [] }
  const { modules } = await loadGpus(options)
  const all = await devices()
  const warnings = gpuWarnings(modules, all)
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
  const names = all.flatMap(({ name, refused }) => (refused ? [] : [name])).join(', ')
  throw new FluxError(
    'FLUX_DEVICE',
    [
      `there is no device for the backend '${backend}'; 'auto', 'cpu', 'gpu', 'rpc://host:port' or one of these is possible: ${names}`,
      ...warnings,
      HINT,
    ].join('; '),
  )
}

const HINT = "'ggflux doctor' says more"

function cpuName(): string {
  const cpu = nativeAddon()
    .devices()
    .find(({ kind }) => kind === 'cpu')
  if (!cpu) throw new FluxError('FLUX_DEVICE', "the CPU's module is missing next to the addon; install ggflux again")
  return cpu.name
}

/**
 * The usable GPU that is probably the fastest: one with its own memory before an integrated one, then by backend, as the
 * same GPU can be there twice, then the one with the most free memory.
 *
 * @param leastIntegrated bytes that an integrated GPU must have
 */
export function preferredGpu(devices: readonly Device[], leastIntegrated = 0): Device | undefined {
  const backend = (device: Device) => {
    const known = GPU_BACKENDS.indexOf(backendOf(device) as GpuBackend)
    return known < 0 ? GPU_BACKENDS.length : known
  }
  return devices
    .filter(({ kind, refused }) => kind === 'gpu' && !refused)
    .filter(({ integrated, memoryTotal }) => !integrated || memoryTotal >= leastIntegrated)
    .sort(
      (a, b) => Number(a.integrated) - Number(b.integrated) || backend(a) - backend(b) || b.memoryFree - a.memoryFree,
    )[0]
}
