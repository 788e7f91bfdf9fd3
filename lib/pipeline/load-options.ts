import { checkHubOptions, type HubOptions } from '../hub/settings.js'
import { filesInWords, type ModelFiles } from '../families/registry.js'
import { componentNames } from '../model/model-files.js'
import { PRECISIONS, type NetworkOptions } from '../networks/network.js'
import {
  badOption,
  requireDeviceMemory,
  requireOneOf,
  requireOptions,
  requireSignal,
  requireWhole,
} from '../options/checks.js'

export interface LoadOptions extends NetworkOptions {
  /**
   * Whether the text encoders stay in memory between images. 'auto': they stay when the model's files together take at
   * most half of this machine's memory. When they do not stay, nothing is loaded before the first image. The first
   * image then loads the denoiser after the prompt is encoded, so that encoders and denoiser are not in memory
   * together during that image. @default 'auto'
   */
  textEncoders?: 'auto' | 'keep' | 'release'
  /**
   * Computes in a child process, so that a crash of a driver, or a model's file that is cut short while it is in use,
   * does not end this one: the image fails with FLUX_CRASHED, and the next one starts another process. The model is
   * then loaded again. @default false
   */
  isolate?: boolean
  /** how models are downloaded from the hub */
  hub?: HubOptions
  /**
   * called with the bytes of the model in the hub's cache and the total; not called when nothing has to be downloaded.
   * Later also for LoRAs, ControlNets and IP-Adapters on the hub that an image needs
   */
  onDownload?: (done: number, total: number) => void
  /** called with the loaded share of all weights, 0 to 1, after each file is loaded; during the first image as well */
  onProgress?: (progress: number) => void
}

const OPTIONS = [
  'textEncoders',
  'isolate',
  'backend',
  'threads',
  'precision',
  'deviceMemory',
  'signal',
  'onProgress',
  'hub',
  'onDownload',
] as const satisfies readonly (keyof LoadOptions)[]

/**
 * Checks the arguments of `ImagePipeline.load`. `source` may contain options as well; `options` overrides them.
 *
 * @throws {FluxError} FLUX_BAD_OPTION
 */
export function completeLoadOptions(
  source: string | (ModelFiles & LoadOptions),
  options: LoadOptions,
): LoadOptions & { model: string | ModelFiles } {
  requireOptions('the options of load', options, OPTIONS)
  if (typeof source === 'string') return { model: source, ...checked(options) }
  const wanted = `'tiny', a preset such as 'flux.1-schnell', hf:owner/name, a folder, or ${filesInWords()}`
  if (typeof source !== 'object' || source === null) throw badOption('the model', source, wanted)
  requireOptions('the model', source, [...componentNames(), 'tokenizers', ...OPTIONS])
  const {
    textEncoders,
    isolate,
    backend,
    threads,
    precision,
    deviceMemory,
    signal,
    onProgress,
    hub,
    onDownload,
    ...model
  } = source
  return {
    model,
    ...checked({
      textEncoders,
      isolate,
      backend,
      threads,
      precision,
      deviceMemory,
      signal,
      onProgress,
      hub,
      onDownload,
    }),
    ...checked(options),
  }
}

/** Checks the options and returns only those that are given. */
function checked(options: { [K in keyof LoadOptions]: LoadOptions[K] | undefined }): LoadOptions {
  const { textEncoders, isolate, backend, threads, precision, deviceMemory, signal, onProgress, hub, onDownload } =
    options
  if (textEncoders !== undefined) requireOneOf('textEncoders', textEncoders, ['auto', 'keep', 'release'])
  if (isolate !== undefined && typeof isolate !== 'boolean') throw badOption('isolate', isolate, 'true or false')
  if (threads !== undefined) requireWhole('threads', threads, 1, 512)
  if (backend !== undefined && typeof backend !== 'string')
    throw badOption('backend', backend, "'auto', 'cpu', 'gpu', a device's name or 'rpc://host:port'")
  if (precision !== undefined) requireOneOf('precision', precision, PRECISIONS)
  if (deviceMemory !== undefined) requireDeviceMemory(deviceMemory)
  requireSignal(signal)
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw badOption('onProgress', onProgress, 'a function')
  if (onDownload !== undefined && typeof onDownload !== 'function')
    throw badOption('onDownload', onDownload, 'a function')
  if (hub !== undefined) checkHubOptions(hub)
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}
