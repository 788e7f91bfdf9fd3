import type { Flops, Work } from '../networks/flops.js'
import type { FluxError } from '../errors.js'
import type { LoadedNetwork, NetworkOptions } from '../networks/network.js'
import type { NetworkFile } from '../networks/network-file.js'
import type { NetworkConfigs, NetworkKind } from '../networks/registry.js'
import type { Prediction } from '../sampling/prediction.js'
import type { Predict } from '../sampling/samplers.js'
import type { SchedulerName, Shift } from '../sampling/schedule.js'
import type { Conditioning } from './conditioning.js'
import type { ImageEncoders, ImageInputs } from './image-inputs.js'
import type { LatentFormat } from './latent-format.js'

/** The tokenizer of a text encoder. */
export interface TokenizerSource {
  /** the name that the command line's help shows */
  title: string
  /** the tokenizer's folder in a diffusers repository, next to the encoder's folder */
  folder: string
  /** sets of file names that belong together, the preferred set first */
  files: readonly (readonly string[])[]
  /** the metadata key that shows that a GGUF file contains the tokenizer */
  inside?: string
  /** `size`: every id is smaller than this */
  load(place: string): Promise<{ size: number }>
}

/** One network of a model. */
export interface Component {
  kind: NetworkKind
  network: { load(source: { path: string; config?: object }, options: NetworkOptions): Promise<LoadedNetwork<object>> }
  /**
   * its purpose: 'text' encodes the prompt, 'image' encodes images that guide, 'denoise' predicts, 'decode' makes the image,
   * 'preview' makes a preview
   */
  stage: 'text' | 'image' | 'denoise' | 'decode' | 'preview'
  required: boolean
  /** the name that the command line's help shows */
  title: string
  /** the name in messages, if it differs from the component's name */
  label?: string
  /** the component's folder in a diffusers repository */
  hubFolder?: string
  tokenizer?: TokenizerSource
}

export type Components = Record<string, Component>

/** The opened files, by component. */
export type NetworksOf<C extends Components> = {
  [N in keyof C & string]: NetworkFile<NetworkConfigs[C[N]['kind']]>
}

type Loaded<C extends Component> = Awaited<ReturnType<C['network']['load']>>

/** The loaded component that denoises. */
export type Denoiser<C extends Components> = {
  [N in keyof C]: C[N]['stage'] extends 'denoise' ? Loaded<C[N]> : never
}[keyof C]

/** The text encoders, as a family uses them. */
export interface Encoders<C extends Components> {
  tokenizers: {
    [N in keyof C & string as C[N] extends { tokenizer: TokenizerSource } ? N : never]: C[N] extends {
      tokenizer: { load(place: string): Promise<infer T> }
    }
      ? T
      : never
  }
  /** evaluates one of them with its LoRAs for each item, loaded once; throws if an output is not finite */
  run<N extends keyof C & string, Item>(
    name: N,
    items: readonly Item[],
    work: (encoder: Loaded<C[N]>, item: Item, options: { signal?: AbortSignal }) => Promise<Float32Array>,
  ): Promise<Float32Array[]>
}

/** The default settings of an image. */
export interface Defaults {
  /** in pixels */
  width: number
  height: number
  steps: number
  /** undefined for a model without guidance */
  guidance: number | undefined
  /** whether larger images stay longer at high noise levels */
  shift: boolean
  /** the number of prompt tokens that the text encoder receives */
  maxSequenceLength: number
}

/** The properties of one model of a family. */
export interface Variant {
  defaults: Defaults
  latent: LatentFormat
  /** what the user should know before the first image */
  warnings: string[]
  /** the images that the denoiser reads: any number of references, one control image, or one image and its mask */
  reads?: 'references' | 'control' | 'fill'
  /** whether it is trained to edit the images that are given as references, as far as its file says */
  editsReferences?: boolean
  /** the size that a reference image is brought to, in pixels. @default its own, in whole units */
  referenceSize?(width: number, height: number): { width: number; height: number }
}

/** The request that an image is conditioned on. */
export interface ImageRequest {
  prompt: string
  width: number
  height: number
  guidance: number | undefined
  maxSequenceLength: number
  /** whether the prompt has weights, `(word:1.3)` */
  promptWeights: boolean
  /** the noise levels of the run */
  sigmas: readonly number[]
}

export interface ScheduleRequest {
  width: number
  height: number
  steps: number
  scheduler: SchedulerName
  shift: Shift
}

/** The sizes that an image's cost depends on. */
export interface ImageSize extends Pick<ImageRequest, 'width' | 'height' | 'maxSequenceLength'> {
  /** what the denoiser reads. @default none */
  inputs?: ImageInputs
  /** the files of networks that are evaluated inside the denoiser, as `checkImages` returned them. @default none */
  attached?: readonly NetworkFile<object>[]
  /** whether an image is encoded to start from. @default false */
  startsFromImage?: boolean
}

/** The locations of a family's models on the hub. */
export interface FamilyPresets {
  /** references of the denoisers, by model name */
  models: Record<string, string>
  /** references of the other components, which all of these models share */
  companions: Record<string, string>
  /** references of the tokenizers, by component, for encoders whose files do not contain one */
  tokenizers: Record<string, string>
  /**
   * references of single files, by name: LoRAs, ControlNets, IP-Adapters, components that few images need. The names of
   * models and files begin with the family's id, except those of files that other programs use as well
   */
  files: Record<string, string>
  /** by the name of a file, what it does not work without: names of files, by component */
  needs: Record<string, Record<string, string>>
}

/** Makes images with a set of networks. `Components` are by name, in loading order. */
export interface Family<C extends Components = Components> {
  id: string
  title: string
  components: C
  /** whether a denoiser of the right kind belongs to this family */
  recognise(denoiser: NetworkFile<unknown>): boolean
  /** errors in the combination of files that are each valid on their own */
  incompatibilities(networks: Partial<NetworksOf<C>>): FluxError[]
  /** @throws {FluxError} FLUX_BAD_FILE for an invalid value in a file's metadata */
  variant(networks: NetworksOf<C>): Variant
  prediction: Prediction
  /** noise levels, descending to 0 */
  sigmas(request: ScheduleRequest): number[]
  /** encodes the prompts of several requests, so that each encoder is loaded once for all of them */
  encode(requests: readonly ImageRequest[], encoders: Encoders<C>): Promise<Conditioning[]>
  /**
   * errors in a request's images, before anything is loaded: files of ControlNets, missing components; absent if no
   * variant reads images
   *
   * @returns the files that `attach` loads
   * @throws {FluxError}
   */
  checkImages?(inputs: ImageInputs, networks: NetworksOf<C>): Promise<NetworkFile<object>[]>
  /** encodes the images for `bind`, which finds the result in its conditioning */
  encodeImages?(
    inputs: ImageInputs,
    size: Pick<ImageSize, 'width' | 'height' | 'attached'>,
    encoders: ImageEncoders,
  ): Promise<unknown>
  /** the components that encode the images of a request, next to the one that decodes; absent if there are none */
  imageEncoders?(networks: NetworksOf<C>, inputs: ImageInputs): NetworkFile<object>[]
  /** loads the files that `checkImages` returned into the denoiser, and removes what the last request needed */
  attach?(denoiser: Denoiser<C>, attached: readonly NetworkFile<object>[], signal: AbortSignal): Promise<void>
  /** the model as a function of the state and the noise level; everything else is bound */
  bind(denoiser: Denoiser<C>, conditioning: Conditioning, request: ImageRequest, signal: AbortSignal): Predict
  /** `encode`: of a request's images, absent if no variant reads images */
  operations(networks: NetworksOf<C>, size: ImageSize): Record<Exclude<Work, 'encode'>, Flops> & { encode?: Flops }
  /** an upper bound of the activations in bytes; no two evaluations hold theirs in memory at the same time */
  activationBytes(networks: NetworksOf<C>, size: ImageSize, options: NetworkOptions): Promise<number>
  presets: FamilyPresets
}

/** The names of a family's components for a stage. */
export function componentsFor({ components }: Family, stage: Component['stage']): string[] {
  return Object.keys(components).filter((name) => components[name]!.stage === stage)
}

export function denoiserOf(family: Family): string {
  return componentsFor(family, 'denoise')[0]!
}

export function requiredComponents({ components }: Family): string[] {
  return Object.keys(components).filter((name) => components[name]!.required)
}
