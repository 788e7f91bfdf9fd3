/** The results of trials, in the user's cache folder. A cache that is missing or damaged only means another trial. */

import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { threadId } from 'node:worker_threads'
import { VERSION } from '../version.js'
import type { NativeDrivers } from './addon.js'
import type { GpuModule } from './locate.js'

/** What is known of a module. */
export interface TrialResult {
  /** why the module cannot be used at all, or '' */
  failure: string
  /** by name; `failure` says why the device cannot be used, or is '' */
  devices: Record<string, { description: string; failure: string }>
  drivers: NativeDrivers
}

type Cache = Record<string, TrialResult>

/** The file of the cache; undefined if this user has no folder for it. */
export function trialCacheFile(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const { XDG_CACHE_HOME: own = '', LOCALAPPDATA: windows = '' } = env
  const folders: Record<string, () => string> = {
    win32: () => windows || join(homedir(), 'AppData', 'Local'),
    darwin: () => join(homedir(), 'Library', 'Caches'),
  }
  try {
    const folder = own || folders[process.platform]?.() || join(homedir(), '.cache')
    return isAbsolute(folder) ? join(folder, 'ggflux', 'devices.json') : undefined
  } catch {
    return undefined // a user without a home
  }
}

/** What is known of the module. It depends on the module's file and the settings of the drivers' own variables. */
export function cachedTrial(module: GpuModule): TrialResult | undefined {
  return readCache()[identityOf(module)]
}

export function cacheTrial(module: GpuModule, result: TrialResult): void {
  const current = Object.entries(readCache()).filter(([key]) => key.startsWith(`["${VERSION}",`))
  writeCache({ ...Object.fromEntries(current), [identityOf(module)]: result })
}

/** Every GPU is then tried again. */
export function clearTrials(): void {
  const file = trialCacheFile()
  if (file) rmSync(file, { force: true, recursive: true })
}

function identityOf({ file }: GpuModule): string {
  const { size, mtimeMs } = statSync(file)
  const settings = Object.entries(process.env).filter(([name]) => /^(GGML|VK|CUDA|NVIDIA)_/.test(name))
  return JSON.stringify([VERSION, file, size, mtimeMs, settings.sort()])
}

function readCache(): Cache {
  try {
    const cache = JSON.parse(readFileSync(trialCacheFile() ?? '', 'utf8')) as Cache
    return Object.fromEntries(Object.entries(cache).filter(([, result]) => isResult(result)))
  } catch {
    return {}
  }
}

function isResult(value: unknown): value is TrialResult {
  const { failure, drivers, devices } = (value ?? {}) as TrialResult
  return (
    typeof failure === 'string' &&
    typeof drivers === 'object' &&
    typeof devices === 'object' &&
    Object.values(devices ?? {}).every((device) => typeof device?.failure === 'string')
  )
}

function writeCache(cache: Cache): void {
  const file = trialCacheFile()
  if (!file) return
  const temporary = `${file}.${process.pid}.${threadId}`
  try {
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(temporary, JSON.stringify(cache, null, 1))
    renameSync(temporary, file)
  } catch {
    // the folder cannot be written to: the next process tries again
    try {
      rmSync(temporary, { force: true })
    } catch {
      // nor entered
    }
  }
}
