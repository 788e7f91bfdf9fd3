import { Estimator, type Estimate } from '../cost/estimate.js'
import type { PullOptions } from '../hub/pull.js'
import { isOnHub } from '../hub/plan.js'
import type { GenerateEvent, ImageEvent } from '../jobs/events.js'
import { chooseDevice, devices, type Device } from '../native/devices.js'
import { totalMemory } from '../native/free-memory.js'
import type { NetworkFile } from '../networks/network-file.js'
import type { LoadedNetwork, NetworkOptions, ProfileRow } from '../networks/network.js'
import type { DrawOptions, Engine } from './engine.js'
import { completeOptions, type GenerateOptions, type Settings } from './generate-options.js'
import { idleOptions } from './idle-options.js'
import type { ImageSettings } from './image-options.js'
import { LazyNetwork } from './lazy-network.js'
import type { LoadOptions } from './load-options.js'
import { withBundledFiles, withLocalFiles } from './local-files.js'
import { costOf, makeImage } from './make-image.js'
import { ModelNetworks } from './model-networks.js'
import type { CompleteModel } from './open-model.js'
import { parametersOf } from './parameters.js'
import { prepareImages, type PreparedImages } from './prepare-images.js'
import { checkUpscaler } from './upscale-image.js'

/** Makes images in this process. */
export class LocalEngine implements Engine {
  readonly endsAtOnce = false
  readonly #networks: ModelNetworks
  /** how files on the hub are downloaded */
  readonly #hub: PullOptions
  /** reported with the first image */
  readonly #warnings: string[]

  private constructor(networks: ModelNetworks, hub: PullOptions, warnings: string[]) {
    this.#networks = networks
    this.#hub = hub
    this.#warnings = warnings
  }

  /** Loads the networks that are needed for every image, if they stay in memory. */
  static async load(model: CompleteModel, options: LoadOptions): Promise<LocalEngine> {
    const { textEncoders = 'auto', signal, onProgress, hub, onDownload, ...wanted } = options
    const { name, warnings } = await chooseDevice(wanted.backend, signal ? { signal } : {})
    const device: NetworkOptions = { ...wanted, backend: name }
    const { family, networks, variant } = model
    const needed = Object.keys(networks).filter((name) => family.components[name]!.required)
    const total = needed.reduce((sum, name) => sum + networks[name]!.bytes, 0)
    const keep = textEncoders === 'keep' || (textEncoders === 'auto' && total <= totalMemory() / 2)
    const loaded: Record<string, number> = {}
    const lazily = (name: string): LazyNetwork<LoadedNetwork<object>> => {
      const { file, bytes } = networks[name]!
      const { network, stage, required } = family.components[name]!
      const { scale, shift } = variant.latent
      const config = stage === 'decode' ? { scaleFactor: scale, shiftFactor: shift } : {}
      const tell = (progress: number) => {
        loaded[name] = progress * bytes
        onProgress?.(Object.values(loaded).reduce((sum, bytes) => sum + bytes) / total)
      }
      const options: NetworkOptions = { ...device, ...(onProgress && required ? { onProgress: tell } : {}) }
      return new LazyNetwork((signal) => network.load({ path: file.path, config }, { ...options, signal }))
    }
    const lazy = Object.fromEntries(Object.keys(networks).map((name) => [name, lazily(name)]))
    const estimator = new Estimator(model, device, keep)
    const downloads: PullOptions = { ...hub, ...(onDownload ? { onProgress: onDownload } : {}) }
    const engine = new LocalEngine(new ModelNetworks(model, estimator, keep, lazy, device), downloads, warnings)
    try {
      if (keep) for (const name of needed) await lazy[name]!.get(signal)
      return engine
    } catch (error) {
      await engine.close()
      throw error
    }
  }

  /** Makes `count` images, with seeds that follow each other: the second ones, where there is a variation. */
  async *draw(
    given: DrawOptions & { seed: number },
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent, ImageEvent, undefined> {
    const warnings = this.#warnings.splice(0)
    const hub = { ...this.#hub, signal, onWarning: (message: string) => void warnings.push(message) }
    const options = await withLocalFiles(given, hub)
    const settings = this.#complete(options)
    const { images, variation, count, seed } = settings
    if (settings.hires?.upscaler !== undefined) await checkUpscaler(settings.hires.upscaler)
    const prepared = images && (await this.#prepare(options, images, signal))
    // the images determine the size, and with it the noise levels
    const sized = prepared ? this.#complete({ ...options, width: prepared.width, height: prepared.height }) : settings
    for (const message of [...warnings, ...(prepared?.warnings ?? []), ...idleOptions(sized)])
      yield { type: 'warning', message }
    const { attached } = prepared ?? {}
    const large = images && sized.hires ? await this.#prepare(sized.hires, images, signal, attached) : undefined
    for (let index = 0; ; index++) {
      const next = variation ? { variation: { ...variation, seed: variation.seed + index } } : { seed: seed + index }
      const own = { ...sized, ...next }
      const parameters = parametersOf({ ...own, ...prepared?.requested }, this.#networks.model)
      const task = { networks: this.#networks, settings: own, index, prepared, large, parameters, signal }
      const image = yield* makeImage(task)
      if (index === count - 1) return image
      yield image
    }
  }

  async estimate(options: DrawOptions, signal: AbortSignal = new AbortController().signal): Promise<Estimate> {
    const request = withBundledFiles(options)
    const settings = this.#complete(request)
    const { images } = settings
    if (!images) return this.#networks.estimator.estimate(settings)
    const prepared = await this.#prepare(request, images, signal)
    const { width, height } = prepared
    return this.#networks.estimator.estimate(costOf(this.#complete({ ...request, width, height }), prepared))
  }

  profile(work: () => Promise<unknown>): Promise<ProfileRow[]> {
    return this.#networks.profile(work)
  }

  async device(): Promise<Device> {
    const { backend = 'cpu' } = this.#networks.device
    const found = (await devices()).find(({ name }) => name === backend)
    if (found) return found
    // on another machine
    return {
      ...{ name: backend, description: backend, kind: 'accelerator', backend: 'RPC' },
      ...{ integrated: false, memoryTotal: 0, memoryFree: 0 },
    }
  }

  close(): Promise<void> {
    return this.#networks.close()
  }

  #complete(options: GenerateOptions): Settings {
    const { family, variant } = this.#networks.model
    return completeOptions(options, family, variant)
  }

  /**
   * Reads the images of a request, and checks them against the model.
   *
   * @param checked the files that are attached, if another size of the same request has been checked
   */
  async #prepare(
    { width, height }: Pick<GenerateOptions, 'width' | 'height'>,
    images: ImageSettings,
    signal: AbortSignal,
    checked?: readonly NetworkFile<object>[],
  ): Promise<PreparedImages> {
    const { family, networks, variant } = this.#networks.model
    const prepared = await prepareImages(images, variant, { width, height, signal })
    const { controlNets = [], ipAdapters = [] } = prepared.inputs
    // an estimate leaves files on the hub
    const isHere = ({ path }: { path: string }) => !isOnHub(path)
    const here = { controlNets: controlNets.filter(isHere), ipAdapters: ipAdapters.filter(isHere) }
    const inputs = { ...prepared.inputs, ...here }
    const attached = checked ?? (await family.checkImages?.(inputs, networks))
    return { ...prepared, inputs, ...(attached ? { attached } : {}) }
  }
}
