import type { Estimator } from '../cost/estimate.js'
import type { Conditioning } from '../families/conditioning.js'
import { componentsFor, denoiserOf, type Components, type Encoders } from '../families/family.js'
import { toPlanes, type ImageEncoders } from '../families/image-inputs.js'
import { requireFinite } from '../networks/finite.js'
import { planLoras, type LoraOptions } from '../networks/lora/assignment.js'
import { adaptTo, versionOf, type Adaptable, type VersionedPlan } from '../networks/lora/ensure-loras.js'
import { isAdaptable } from '../networks/lora/layer-names.js'
import { collectProfile, type LoadedNetwork, type NetworkOptions, type ProfileRow } from '../networks/network.js'
import type { Decoder } from './decode.js'
import { imageEncoder, type Encoder } from './encode-image.js'
import type { Settings } from './generate-options.js'
import type { LazyNetwork } from './lazy-network.js'
import type { CompleteModel } from './open-model.js'
import type { EncodedImages, PreparedImages } from './prepare-images.js'
import { PromptCache } from './prompt-cache.js'

/** The networks of a model: loaded when they are needed, with the LoRAs of the image. */
export class ModelNetworks {
  readonly model: CompleteModel
  readonly estimator: Estimator
  /** what networks are loaded with */
  readonly device: NetworkOptions
  /** name of the component that denoises */
  readonly denoiserName: string
  readonly #keep: boolean
  readonly #lazy: Record<string, LazyNetwork<LoadedNetwork<object>>>
  readonly #prompts = new PromptCache()
  /** of the profiles that run */
  readonly #profiles = new Set<ProfileRow[]>()
  /** LoRAs of the last image */
  #loras: VersionedPlan | undefined

  /**
   * @param keep whether the text encoders stay in memory
   * @param lazy the networks by the names of the components
   * @param device what they are loaded with
   */
  constructor(
    model: CompleteModel,
    estimator: Estimator,
    keep: boolean,
    lazy: Record<string, LazyNetwork<LoadedNetwork<object>>>,
    device: NetworkOptions = {},
  ) {
    this.model = model
    this.estimator = estimator
    this.denoiserName = denoiserOf(model.family)
    this.#keep = keep
    this.#lazy = lazy
    this.device = device
  }

  /** whether the network that denoises is in memory */
  get hasDenoiser(): boolean {
    return this.#lazy[this.denoiserName]!.loaded
  }

  /** See `ImagePipeline.profile`. */
  profile(work: () => Promise<unknown>): Promise<ProfileRow[]> {
    return collectProfile(this.#profiles, work)
  }

  /** Evaluates the denoiser, and adds what the operations took to the profiles that run. */
  async evaluate<T>(denoiser: LoadedNetwork<object>, work: () => Promise<T>): Promise<T> {
    const profiles = [...this.#profiles]
    if (profiles.length === 0) return work()
    let output: Promise<T> | undefined
    const profile = await denoiser.profile(() => (output = work()))
    for (const rows of profiles) rows.push(...profile)
    return output!
  }

  /** Returns the network that denoises, with these LoRAs. */
  denoiser(loras: VersionedPlan, signal: AbortSignal): Promise<LoadedNetwork<object>> {
    return this.#network(this.denoiserName, loras, signal)
  }

  /** Assigns the LoRAs to the networks, from the LoRA files as they are now. */
  async plan(loras: readonly LoraOptions[]): Promise<VersionedPlan> {
    const version = await versionOf(loras)
    if (this.#loras?.version === version) return this.#loras
    const { networks } = this.model
    const adaptable = Object.entries(networks).flatMap(([name, network]) =>
      isAdaptable(network) ? [[name, network] as const] : [],
    )
    return (this.#loras = { ...(await planLoras(loras, Object.fromEntries(adaptable))), version })
  }

  /** Encodes the prompt and with true CFG the negative prompt, unless they are known: then it takes 0 ms. */
  async encode(
    settings: Settings,
    loras: VersionedPlan,
    signal: AbortSignal,
  ): Promise<{ conditioning: Conditioning; negative: Conditioning | undefined; ms: number }> {
    const { trueCfg, negativePrompt } = settings
    const requests = [settings, ...(trueCfg ? [{ ...settings, prompt: negativePrompt }] : [])]
    const keys = requests.map((request) => this.#promptKey(request, loras))
    let ms = 0
    const [conditioning, negative] = await this.#prompts.get(keys, async (missing) => {
      const unknown = missing.map((i) => requests[i]!)
      const began = performance.now()
      const encoded = await this.model.family.encode(unknown, this.#encoders(loras, signal))
      ms = performance.now() - began
      this.estimator.observe('text', settings, (ms * requests.length) / unknown.length)
      return encoded
    })
    return { conditioning: conditioning!, negative, ms }
  }

  /** Encodes the images: the tensors that the denoiser reads, and the state of the image to start from. */
  async encodeImages(
    {
      inputs,
      start,
      width,
      height,
      attached = [],
    }: Pick<PreparedImages, 'inputs' | 'start' | 'width' | 'height' | 'attached'>,
    signal: AbortSignal,
  ): Promise<EncodedImages> {
    const { family, variant } = this.model
    const { latent } = variant
    const decoder = await this.decoder('decode', signal)
    const vae = imageEncoder(decoder as unknown as Encoder, latent, signal)
    const run: ImageEncoders['run'] = async (name, items, work) => {
      // one network at a time has buffers
      await decoder.trim()
      try {
        const network = await this.#lazy[name]!.get(signal)
        const results = await inTurn(items, (item) => work(network as never, item, { signal }))
        await network.trim()
        return results
      } finally {
        if (!this.#keep) await this.#lazy[name]!.release()
      }
    }
    const images = await family.encodeImages?.(inputs, { width, height, attached }, { vae, run })
    const started = start && (await vae(toPlanes(start), height, width))
    await decoder.trim()
    const [rows, columns] = [height / latent.reduction, width / latent.reduction]
    return { images, ...(started ? { image: latent.toState(started, rows, columns) } : {}) }
  }

  async decoder(stage: 'preview' | 'decode', signal: AbortSignal): Promise<Decoder & LoadedNetwork<object>> {
    const [name] = componentsFor(this.model.family, stage)
    return (await this.#lazy[name!]!.get(signal)) as Decoder & LoadedNetwork<object>
  }

  /** Returns a key of everything that a conditioning depends on. */
  #promptKey({ prompt, promptWeights, maxSequenceLength }: Settings, { assigned, version }: VersionedPlan): string {
    const { family } = this.model
    const adapted = componentsFor(family, 'text').some((name) => (assigned[name] ?? []).length > 0)
    return JSON.stringify([family.id, maxSequenceLength, prompt, promptWeights, adapted ? version : ''])
  }

  #encoders(loras: VersionedPlan, signal: AbortSignal): Encoders<Components> {
    const { model } = this
    return {
      tokenizers: model.tokenizers,
      run: async (name, items, work) => {
        try {
          const encoder = await this.#network(name, loras, signal)
          const { label = name } = model.family.components[name]!
          return await inTurn(items, async (item) => {
            const output = await work(encoder, item, { signal })
            requireFinite(output, `the output of the ${label}`, encoder.path, loras.assigned[name])
            return output
          })
        } finally {
          if (!this.#keep) await this.#lazy[name]!.release()
        }
      },
    }
  }

  /** Loads a network if it is not loaded, and applies its LoRAs. */
  async #network(name: string, { assigned }: VersionedPlan, signal: AbortSignal): Promise<LoadedNetwork<object>> {
    const network = await this.#lazy[name]!.get(signal)
    if (assigned[name]) await adaptTo(network as unknown as Adaptable, assigned[name])
    return network
  }

  async close(): Promise<void> {
    await Promise.all(Object.values(this.#lazy).map((network) => network.close()))
  }
}

/** One after the other, because a network does one thing at a time. */
async function inTurn<Item, T>(items: readonly Item[], work: (item: Item) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  for (const item of items) results.push(await work(item))
  return results
}
