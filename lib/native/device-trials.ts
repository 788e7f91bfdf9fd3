/**
 * Tries GPUs before they are used. A device that is listed may still be unusable: an old GPU lacks a feature, a driver
 * is broken. It may then end the process, or compute wrong numbers. So a child process computes something on each
 * device first. The results are kept in the user's cache folder, for one version of the driver.
 */

import { fork } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { VERSION } from '../version.js'
import { nativeAddon, type NativeDevice, type NativeDrivers } from './addon.js'
import type { TrialMessage } from './device-trial-process.js'
import type { GpuModule } from './locate.js'

/** What is known of a module. */
export interface TrialResult {
  /** why the module cannot be used at all, or '' */
  failure: string
  /** why each of its devices cannot be used, or '' */
  devices: Record<string, string>
  drivers: NativeDrivers
}

const TIME_LIMIT_MS = 60_000
// Mesa's software device compiles for minutes before it computes the first time.
const TIME_LIMIT_SOFTWARE_MS = 600_000

const program = fileURLToPath(new URL('./device-trial-process.js', import.meta.url))

/**
 * The result of a trial of the module's devices, from the cache where the driver is the same.
 *
 * @param onTrial called before a device is tried, which takes seconds
 */
export async function tryModule(module: GpuModule, onTrial?: (device: string) => void): Promise<TrialResult> {
  const key = identityOf(module)
  const known = readCache()[key]
  // the drivers are asked in this process only if they did not fail before
  if (known && JSON.stringify(known.drivers) === JSON.stringify(nativeAddon().drivers())) return known
  const result = await tryInChildren(module, onTrial)
  if (!result.failure) writeCache({ ...readCache(), [key]: result })
  return result
}

/** Asks the drivers of GPUs in a child process, whether or not there is a module for them. */
export async function askDrivers(): Promise<NativeDrivers> {
  let drivers: NativeDrivers = {}
  await runProcess([''], (message) => {
    if (message.type === 'loaded') drivers = message.drivers
  })
  return drivers
}

async function tryInChildren(
  { file }: GpuModule,
  onTrial: ((device: string) => void) | undefined,
): Promise<TrialResult> {
  const result: TrialResult = { failure: '', devices: {}, drivers: {} }
  const lacking = (device: NativeDevice) => vulkanDevice(device, result.drivers)?.halfStorage === false
  for (;;) {
    let loaded: Extract<TrialMessage, { type: 'loaded' }> | undefined
    let trying: string | undefined
    const failure = await runProcess([file, ...Object.keys(result.devices)], (message, setLimit) => {
      if (message.type === 'loaded') {
        loaded = message
        result.failure = message.failure
        result.drivers = message.drivers
      } else if (message.type === 'trying') {
        trying = message.device
        onTrial?.(message.device)
        const device = loaded?.devices.find(({ name }) => name === message.device)
        const software = device && vulkanDevice(device, result.drivers)?.kind === 'software'
        setLimit(software ? TIME_LIMIT_SOFTWARE_MS : TIME_LIMIT_MS)
      } else {
        trying = undefined
        result.devices[message.device] = message.failure
      }
    })
    if (!loaded) return { ...result, failure: failure || 'the process that tried it ended' }
    if (trying !== undefined) {
      result.devices[trying] = failure
      continue // another process tries the other devices
    }
    // which of the devices it was is unknown
    if (failure) for (const { name } of loaded.devices) result.devices[name] ||= failure
    for (const device of loaded.devices)
      if (result.devices[device.name] && lacking(device)) result.devices[device.name] = NO_HALF_STORAGE
    return result
  }
}

const NO_HALF_STORAGE = 'it lacks 16-bit storage, which the Vulkan backend needs; a newer driver may have it'

/** What Vulkan itself says of a device. */
export function vulkanDevice({ backend, description }: NativeDevice, { vulkan }: NativeDrivers) {
  return backend === 'Vulkan' ? vulkan?.find(({ name }) => name === description) : undefined
}

/** What Node's child processes and Electron's utility processes have in common. */
interface Child {
  on(event: 'message', listener: (message: TrialMessage) => void): unknown
  on(event: 'exit', listener: (code: number | null, signal?: string | null) => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  kill(): unknown
  stderr?: NodeJS.ReadableStream | null
}

function start(args: string[]): Child {
  // Electron's main process can be told not to start as Node.js; its utility processes always can.
  if (process.versions['electron'] && (process as { type?: string }).type === 'browser') {
    const electron = createRequire(import.meta.url)('electron') as {
      utilityProcess: { fork(program: string, args: string[], options: object): Child }
    }
    return electron.utilityProcess.fork(program, args, { stdio: 'pipe' })
  }
  return fork(program, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] })
}

/** Returns how the process failed, or '' if it ended well. */
function runProcess(
  args: string[],
  onMessage: (message: TrialMessage, setLimit: (milliseconds: number) => void) => void,
): Promise<string> {
  return new Promise((resolve) => {
    const child = start(args)
    let timer: NodeJS.Timeout | undefined
    let late = false
    let said = ''
    const setLimit = (milliseconds: number) => {
      clearTimeout(timer)
      timer = setTimeout(() => {
        late = true
        child.kill()
      }, milliseconds)
    }
    setLimit(TIME_LIMIT_MS)
    child.stderr?.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-2000)))
    child.on('message', (message) => onMessage(message, setLimit))
    child.on('error', (error) => {
      clearTimeout(timer)
      resolve(`it could not be tried: ${error.message}`)
    })
    child.on('exit', (code, signal) => {
      clearTimeout(timer)
      if (late) return resolve('it did not answer in time')
      if (code === 0) return resolve('')
      const line = said.trim().split('\n').at(-1)
      resolve(`its driver ended the process that tried it (${signal ?? code})${line ? `: ${line}` : ''}`)
    })
  })
}

// ---- the cache ----

type Cache = Record<string, TrialResult>

/** The file that keeps the results. */
export function cacheFile(env: NodeJS.ProcessEnv = process.env): string {
  const system = { win32: env['LOCALAPPDATA'], darwin: join(homedir(), 'Library', 'Caches') }[
    process.platform as string
  ]
  return join(env['XDG_CACHE_HOME'] || system || join(homedir(), '.cache'), 'ggflux', 'devices.json')
}

/** Names the module and everything but the driver that the result depends on. */
function identityOf({ file }: GpuModule): string {
  const { size, mtimeMs } = statSync(file)
  const settings = Object.entries(process.env).filter(([name]) => /^(GGML|VK|CUDA)_/.test(name))
  return JSON.stringify([VERSION, file, size, mtimeMs, settings.sort()])
}

function readCache(): Cache {
  try {
    const cache = JSON.parse(readFileSync(cacheFile(), 'utf8')) as unknown
    const usable = (result: TrialResult) =>
      typeof result?.failure === 'string' &&
      typeof result.drivers === 'object' &&
      Object.values(result.devices ?? { '': 0 }).every((text) => typeof text === 'string')
    return Object.fromEntries(Object.entries(cache as Cache).filter(([, result]) => usable(result)))
  } catch {
    return {}
  }
}

function writeCache(cache: Cache): void {
  const file = cacheFile()
  const temporary = `${file}.${process.pid}`
  try {
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(temporary, JSON.stringify(cache, null, 1))
    renameSync(temporary, file)
  } catch {
    // the folder cannot be written to: the next process tries again
  }
}
