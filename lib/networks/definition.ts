import type { MetadataValue } from '../formats/model-file.js'
import type { TensorType } from '../formats/tensor-types.js'
import type { ConfigRules } from './config-rules.js'
import type { Flops } from './flops.js'
import type { LayoutTensor, TensorRole, TensorShape } from './layout.js'
import type { Change, NameTable } from './name-table.js'

/**
 * One kind of network: all that is known of it outside its class and its C++ file. Reading, converting, synthesising and inspecting files iterate
 * over the definitions in the registry.
 */
export interface NetworkDefinition<C extends object = object, K extends string = string> {
  /** its name in the registry and on the native side */
  readonly kind: K
  /** with an article, for messages */
  readonly label: string
  /** what it is in a model, as `inspect` says it: `transformer` for what draws */
  readonly role: string
  /** the structure in words, where that is more than the label */
  describe?(config: C): string

  readonly names: NameTable
  readonly rules: ConfigRules<C>
  /**
   * The configuration from canonical names and shapes.
   *
   * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION for a wrong override
   */
  readConfig(tensors: Map<string, TensorShape>, overrides?: Partial<C>): C
  /** every tensor in canonical names, in the order of the official files */
  layout(config: C): LayoutTensor[]
  /** the configuration as it crosses the boundary */
  nativeConfig(config: C): Record<string, number>
  /** @param shape as the native side takes it, for the main use of the network */
  flops(config: C, shape: readonly number[]): Flops
  /** of what draws: the shape of one step for an image of so many pixels */
  stepShape?(width: number, height: number, textTokens: number): number[]

  readonly gguf: GgufDefinition<C>
  /** what converters keep out of quantisation, beside what is kept of every network; the first rule that holds decides */
  readonly keep: readonly PrecisionRule[]
  /**
   * Scales that keep activations of order one at any depth; the first rule that holds decides, then those for every network. A gain of 1
   * passes the size of its input on.
   */
  readonly random: readonly DistributionRule[]
  /** of a text encoder with random weights: a tokenizer inside its GGUF file, or in files beside it */
  randomTokenizer?(config: C): { metadata?: Record<string, MetadataValue>; files?: Record<string, string> }
  /** absent where LoRAs add nothing */
  readonly lora?: LoraNames<C>
  /** configurations by the names that `synth` takes: first the one of full size, which the names in LoRAs are looked up in */
  readonly examples: Readonly<Record<string, C>>
}

/** What a GGUF file says beside its tensors. */
export interface GgufDefinition<C> {
  /** `general.architecture` */
  readonly architecture: string
  /** what other programs look for */
  metadata?(config: C): Record<string, MetadataValue>
  /** the name that other programs expect, from the canonical one */
  rename?(name: string): string
  /** the tokenizer that other programs look for inside the file */
  readonly tokenizer?: {
    /** where it is looked for beside a model, and what its files are called */
    readonly folder: 'tokenizer' | 'tokenizer_2'
    readonly files: readonly (readonly string[])[]
    /** @param path of its file or folder, or of a GGUF file that has it inside */
    metadata(path: string): Promise<Record<string, MetadataValue>>
  }
}

export interface PrecisionRule {
  /** all of the given conditions have to hold */
  roles?: TensorRole[]
  name?: RegExp
  maxElements?: number
  type: TensorType
  /** also where the wanted type is no block format, F16 or BF16 for instance */
  always?: true
}

export interface DistributionRule {
  name?: RegExp
  roles?: TensorRole[]
  /** standard deviation times sqrt(fan-in) */
  gain?: number
  standardDeviation?: number
  mean?: number
  /** a 3x3 kernel that blurs */
  smooth?: true
}

/** How LoRAs' files name a network's layers. */
export interface LoraNames<C> {
  /** what may stand before a layer's name */
  readonly prefix: RegExp
  /** what diffusers puts before the fields of PEFT's configuration */
  readonly component: string
  /** names that only LoRAs use, asked before the network's own table */
  readonly renames?: readonly LoraRename[]
  /** rows of each part of a joined matrix but the last, which takes what is left */
  partRows?(config: C): number
  /** the one matrix whose input a LoRA may widen */
  readonly widens?: string
}

/** `leading`: the rows are the first so many parts of the matrix. */
export type LoraRename = readonly [from: RegExp, to: string, how?: Change | { leading: number }]
