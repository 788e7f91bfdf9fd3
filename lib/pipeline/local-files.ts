import { isOnHub, refuseUnknownPreset } from '../hub/plan.js'
import { fileFromHub, type PullOptions } from '../hub/pull.js'
import { bundledFile } from '../model/bundled-model.js'
import type { GenerateOptions } from './generate-options.js'

type Files = Pick<GenerateOptions, 'loras' | 'controlNets' | 'ipAdapters' | 'hires'>

/**
 * Returns the options with paths in place of the names of bundled files, presets and references on the hub
 * (`hf:owner/name:file`). Files that are not in the cache are downloaded.
 *
 * @throws {FluxError} as `pullFile`
 */
export async function withLocalFiles<T extends Files>(given: T, hub: PullOptions): Promise<T> {
  const options = withBundledFiles(given)
  const local = async <F extends { path: string }>(files: readonly F[]): Promise<F[]> => {
    const found: F[] = []
    for (const file of files) found.push({ ...file, path: await localFile(file.path, hub) })
    return found
  }
  const resolved: Files = {}
  if (options.loras) resolved.loras = await local(options.loras)
  if (options.controlNets) resolved.controlNets = await local(options.controlNets)
  if (options.ipAdapters) resolved.ipAdapters = await local(options.ipAdapters)
  const { hires } = options
  if (hires?.upscaler) resolved.hires = { ...hires, upscaler: await localFile(hires.upscaler, hub) }
  return { ...options, ...resolved }
}

/** Returns the options with paths in place of the names of bundled files. Downloads nothing. */
export function withBundledFiles<T extends Files>(options: T): T {
  const { controlNets } = options
  if (!controlNets) return options
  return { ...options, controlNets: controlNets.map((net) => ({ ...net, path: bundledFile(net.path) ?? net.path })) }
}

/** Returns the path of a file. One on the hub is downloaded. */
export async function localFile(path: string, hub: PullOptions): Promise<string> {
  await refuseUnknownPreset(path)
  return isOnHub(path) ? fileFromHub(path, hub) : path
}
