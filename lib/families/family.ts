import type { Flops, Work } from '../networks/flops.js'
import type { FluxError } from '../errors.js'
import type { LoadedNetwork, NetworkOptions } from '../networks/network.js'
import type { NetworkFile } from '../networks/network-file.js'
import type { NetworkConfigs, NetworkKind } from '../networks/registry.js'
import type { Prediction } from '../sampling/prediction.js'
import type { Predict } from '../sampling/samplers.js'
import type { SchedulerName } from '../sampling/schedule.js'
import type { Conditioning } from './conditioning.js'
import type { LatentFormat } from './latent-format.js'

/** A tokenizer of a text encoder. */
export interface TokenizerSource {
  /** as the command line's help calls it */
  title: string
  /** the folder that diffusers has it in, beside that of the encoder */
  folder: string
  /** names of files that belong together, the preferred ones first */
  files: readonly (readonly string[])[]
  /** the key of a GGUF file's metadata that says it carries the tokenizer */
  inside?: string
  /** `size`: ids are smaller */
  load(place: string): Promise<{ size: number }>
}

/** One network of a model. */
export interface Component {
  kind: NetworkKind
  network: { load(source: { path: string; config?: object }, options: NetworkOptions): Promise<LoadedNetwork<object>> }
  /** what it is for: 'text' encodes the prompt, 'denoise' predicts, 'decode' makes the image, 'preview' shows it earlier */
  stage: 'text' | 'denoise' | 'decode' | 'preview'
  required: boolean
  /** as the command line's help calls it */
  title: string
  /** in messages, where that is not its name */
  label?: string
  /** the folder of a repository as diffusers lays it out */
  hubFolder?: string
  tokenizer?: TokenizerSource
}

export type Components = Record<string, Component>

/** Opened files by component. */
export type NetworksOf<C extends Components> = {
  [N in keyof C & string]: NetworkFile<NetworkConfigs[C[N]['kind']]>
}

type Loaded<C extends Component> = Awaited<ReturnType<C['network']['load']>>

/** The component that denoises, loaded. */
export type Denoiser<C extends Components> = {
  [N in keyof C]: C[N]['stage'] extends 'denoise' ? Loaded<C[N]> : never
}[keyof C]

/** The text encoders as a family uses them. */
export interface Encoders<C extends Components> {
  tokenizers: {
    [N in keyof C & string as C[N] extends { tokenizer: TokenizerSource } ? N : never]: C[N] extends {
      tokenizer: { load(place: string): Promise<infer T> }
    }
      ? T
      : never
  }
  /** evaluates one of them, with its LoRAs; refuses numbers that are not finite */
  run<N extends keyof C & string>(
    name: N,
    work: (encoder: Loaded<C[N]>, options: { signal?: AbortSignal }) => Promise<Float32Array>,
  ): Promise<Float32Array>
}

/** What an image is made with where the caller says nothing. */
export interface Defaults {
  /** pixels */
  width: number
  height: number
  steps: number
  /** undefined for a model that takes none */
  guidance: number | undefined
  /** whether larger images stay longer at high noise levels */
  shift: boolean
  /** tokens of the prompt that the text encoder sees */
  maxSequenceLength: number
}

/** What is particular to one model of a family. */
export interface Variant {
  defaults: Defaults
  latent: LatentFormat
  /** what its user should know before the first image */
  warnings: string[]
}

/** What an image is conditioned on. */
export interface ImageRequest {
  prompt: string
  width: number
  height: number
  guidance: number | undefined
  maxSequenceLength: number
}

export interface ScheduleRequest {
  width: number
  height: number
  steps: number
  scheduler: SchedulerName
  shift: boolean
}

/** Sizes that an image's cost depends on. */
export type ImageSize = Pick<ImageRequest, 'width' | 'height' | 'maxSequenceLength'>

/** Where models of a family are on the hub. */
export interface FamilyPresets {
  /** references of denoisers, by the name of the model */
  models: Record<string, string>
  /** references of the other components, which go with all of them */
  companions: Record<string, string>
  /** of tokenizers, by component, for encoders that carry none */
  tokenizers: Record<string, string>
}

/** What makes images out of networks. `Components` by name, in the order in which they are loaded. */
export interface Family<C extends Components = Components> {
  id: string
  title: string
  components: C
  /** whether a denoiser, of the right kind, belongs to this family */
  recognise(denoiser: NetworkFile<unknown>): boolean
  /** what is wrong with files that are sound each for itself, but do not go together */
  incompatibilities(networks: Partial<NetworksOf<C>>): FluxError[]
  /** @throws {FluxError} FLUX_BAD_FILE where a file's metadata says what cannot be */
  variant(networks: NetworksOf<C>): Variant
  prediction: Prediction
  /** noise levels, falling to 0 */
  sigmas(request: ScheduleRequest): number[]
  encode(request: ImageRequest, encoders: Encoders<C>): Promise<Conditioning>
  /** the model with everything but state and noise level bound to it */
  bind(denoiser: Denoiser<C>, conditioning: Conditioning, request: ImageRequest, signal: AbortSignal): Predict
  operations(networks: NetworksOf<C>, size: ImageSize): Record<Work, Flops>
  /** bytes of activations, at most, of which no two evaluations are in memory together */
  activationBytes(networks: NetworksOf<C>, size: ImageSize, options: NetworkOptions): Promise<number>
  presets: FamilyPresets
}

/** Names of a family's components for a stage. */
export function componentsFor({ components }: Family, stage: Component['stage']): string[] {
  return Object.keys(components).filter((name) => components[name]!.stage === stage)
}

export function denoiserOf(family: Family): string {
  return componentsFor(family, 'denoise')[0]!
}

export function requiredComponents({ components }: Family): string[] {
  return Object.keys(components).filter((name) => components[name]!.required)
}
