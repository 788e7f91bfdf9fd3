/**
 * Tries GPUs before they are used. A device that is listed may still be unusable: an old GPU lacks a feature, a driver
 * is broken. It may then end the process, or compute wrong numbers. So a child process computes something on each
 * device first. The results are kept in the user's cache folder, for one version of the driver.
 */

import { fileURLToPath } from 'node:url'
import { onAbort } from '../options/abort.js'
import { nativeAddon, type NativeDevice, type NativeDrivers } from './addon.js'
import { startChild } from './child-process.js'
import type { TrialMessage } from './device-trial-process.js'
import type { GpuBackend, GpuModule } from './locate.js'
import { cachedTrial, cacheTrial, type TrialResult } from './trial-cache.js'

export interface TrialOptions {
  /** called before a driver is tried, which takes seconds */
  onTrial?: (backend: GpuBackend) => void
  /** ends the child process; the promise then rejects with its reason */
  signal?: AbortSignal
}

const TIME_LIMIT_MS = 60_000
// Mesa's software device compiles for minutes before it computes the first time.
const TIME_LIMIT_SOFTWARE_MS = 900_000

const program = fileURLToPath(new URL('./device-trial-process.js', import.meta.url))

/** The result for a module that was tried with the same drivers; undefined if there is none. */
export function knownResult(module: GpuModule): TrialResult | undefined {
  const known = cachedTrial(module)
  // this process asks the drivers only if they did not fail before
  return known && JSON.stringify(known.drivers) === JSON.stringify(nativeAddon().drivers()) ? known : undefined
}

/**
 * Tries all devices of a module. The result is kept if it says something about the driver, and not only about this
 * moment.
 */
export async function tryModule(module: GpuModule, options: TrialOptions = {}): Promise<TrialResult> {
  options.onTrial?.(module.backend)
  const result: TrialResult = { failure: '', devices: {}, drivers: {} }
  let lasting = true
  for (;;) {
    let loaded: Extract<TrialMessage, { type: 'loaded' }> | undefined
    let trying: string | undefined
    const args = [module.file, ...Object.keys(result.devices)]
    const end = await runProcess(args, options.signal, (message, setLimit) => {
      const device = loaded?.devices.find(({ name }) => 'device' in message && name === message.device)
      if (message.type === 'loaded') {
        loaded = message
        result.failure = message.failure
        result.drivers = message.drivers
      } else if (message.type === 'trying') {
        trying = message.device
        const software = device && vulkanDevice(device, result.drivers)?.kind === 'software'
        setLimit(software ? TIME_LIMIT_SOFTWARE_MS : TIME_LIMIT_MS)
      } else if (message.type === 'tried' && device) {
        trying = undefined
        lasting &&= !/memory/i.test(message.failure)
        result.devices[device.name] = { description: device.description, failure: message.failure }
      }
    })
    lasting &&= !end || end.lasting
    const devices = loaded?.devices ?? []
    const broken = devices.find(({ name }) => name === trying)
    if (!loaded) result.failure = end?.text ?? 'the process that tried it ended'
    else if (broken) result.devices[broken.name] = { description: broken.description, failure: end?.text ?? '' }
    // which of the devices it was is unknown
    else if (end) for (const { name } of devices) result.devices[name]!.failure ||= end.text
    if (broken) continue // another process tries the other devices
    for (const device of devices) {
      const tried = result.devices[device.name]!
      if (tried.failure && vulkanDevice(device, result.drivers)?.halfStorage === false) tried.failure = NO_HALF_STORAGE
    }
    if (lasting && loaded) cacheTrial(module, result)
    return result
  }
}

const NO_HALF_STORAGE = 'it lacks 16-bit storage, which the Vulkan backend needs; a newer driver may have it'

/** Asks the drivers of GPUs in a child process, whether or not there is a module for them. */
export async function askDrivers(): Promise<{ drivers: NativeDrivers; failure: string }> {
  let drivers: NativeDrivers | undefined
  const end = await runProcess([''], undefined, (message) => {
    if (message.type === 'loaded') drivers = message.drivers
  })
  return { drivers: drivers ?? {}, failure: end?.text ?? '' }
}

/** What Vulkan itself says of a device. */
export function vulkanDevice({ backend, description }: NativeDevice, { vulkan }: NativeDrivers) {
  return backend === 'Vulkan' ? vulkan?.find(({ name }) => name === description) : undefined
}

/** How a process failed. */
interface End {
  text: string
  /** it would probably fail again */
  lasting: boolean
}

const CRASHES = ['SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGSEGV', 'SIGSYS', 'SIGTRAP']

/** Returns how the process failed, or undefined if it ended well. */
async function runProcess(
  args: string[],
  signal: AbortSignal | undefined,
  onMessage: (message: TrialMessage, setLimit: (milliseconds: number) => void) => void,
): Promise<End | undefined> {
  signal?.throwIfAborted()
  const child = await startChild<TrialMessage>(program, args)
  const killed = () => child.kill('SIGKILL')
  const unlisten = signal && onAbort(signal, killed)
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<End | undefined>((resolve) => {
      let started = false
      let late = false
      const setLimit = (milliseconds: number) => {
        clearTimeout(timer)
        timer = setTimeout(() => {
          late = true
          child.kill('SIGKILL')
        }, milliseconds)
      }
      setLimit(TIME_LIMIT_MS)
      child.on('message', (message) => {
        started = true
        onMessage(message, setLimit)
      })
      const notStarted = (why: string) =>
        resolve({ text: `the process that tries it could not be started (${why})`, lasting: false })
      child.on('error', ({ message }) => notStarted(message))
      child.onEnd((code, ended) => {
        if (late) return resolve({ text: 'its driver did not answer in time', lasting: false })
        if (code === 0) return resolve(undefined)
        if (!started) return notStarted(String(ended ?? code))
        const line = child.said().trim().split('\n').at(-1)
        const text = `its driver ended the process that tried it (${ended ?? code})${line ? `: ${line}` : ''}`
        resolve({ text, lasting: !ended || CRASHES.includes(ended) })
      })
    })
  } finally {
    clearTimeout(timer)
    unlisten?.()
    signal?.throwIfAborted()
  }
}
