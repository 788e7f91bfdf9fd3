import type { MetadataValue } from '../formats/model-file.js'
import type { TensorType } from '../formats/tensor-types.js'
import type { ConfigRules } from './config-rules.js'
import type { Flops } from './flops.js'
import type { LayoutTensor, TensorRole, TensorShape } from './layout.js'
import type { Change, NameTable } from './name-table.js'

/**
 * The definition of one kind of network: everything about it except its class and its C++ file. The code that reads,
 * converts, synthesises and inspects files iterates over the definitions in the registry.
 */
export interface NetworkDefinition<C extends object = object, K extends string = string> {
  /** its name in the registry and on the native side */
  readonly kind: K
  /** with an article, for messages */
  readonly label: string
  /** its role in a model, as `inspect` prints it: `transformer` for the network that draws */
  readonly role: string
  /** describes the structure, if that is more than the label */
  describe?(config: C): string

  readonly names: NameTable
  readonly rules: ConfigRules<C>
  /**
   * Reads the configuration from canonical names and shapes.
   *
   * @throws {FluxError} FLUX_BAD_FILE for a missing tensor, FLUX_UNSUPPORTED for numbers out of range, FLUX_BAD_OPTION
   *   for an invalid override
   */
  readConfig(tensors: Map<string, TensorShape>, overrides?: Partial<C>): C
  /** all tensors with canonical names, in the order of the official files */
  layout(config: C): LayoutTensor[]
  /** the configuration as it is passed to the native side */
  nativeConfig(config: C): Record<string, number>
  /** @param shape as the native side expects it, for the main use of the network */
  flops(config: C, shape: readonly number[]): Flops
  /** only for a network that draws: the shape of one step for an image of this size in pixels */
  stepShape?(width: number, height: number, textTokens: number): number[]

  readonly gguf: GgufDefinition<C>
  /**
   * the tensors that converters do not quantise, in addition to the rules for every network; the first matching rule
   * applies
   */
  readonly keep: readonly PrecisionRule[]
  /**
   * Scales that keep activations at order one at any depth. The first matching rule applies, before the rules for every
   * network. A gain of 1 preserves the scale of the input.
   */
  readonly random: readonly DistributionRule[]
  /** for a text encoder with random weights: a tokenizer inside its GGUF file, or in files next to it */
  randomTokenizer?(config: C): { metadata?: Record<string, MetadataValue>; files?: Record<string, string> }
  /** undefined if LoRAs cannot change the network */
  readonly lora?: LoraNames<C>
  /**
   * example configurations by the names that `synth` accepts; the first has the full size and is used to look up the
   * names in LoRAs
   */
  readonly examples: Readonly<Record<string, C>>
}

/** The contents of a GGUF file in addition to its tensors. */
export interface GgufDefinition<C> {
  /** `general.architecture` */
  readonly architecture: string
  /** the metadata that other programs look for */
  metadata?(config: C): Record<string, MetadataValue>
  /** converts a canonical name to the one that other programs expect */
  rename?(name: string): string
  /** the tokenizer that other programs look for inside the file */
  readonly tokenizer?: {
    /** the folder where the tokenizer is located next to a model, and the names of its files */
    readonly folder: 'tokenizer' | 'tokenizer_2'
    readonly files: readonly (readonly string[])[]
    /** @param path the tokenizer's file or folder, or a GGUF file that contains it */
    metadata(path: string): Promise<Record<string, MetadataValue>>
  }
}

export interface PrecisionRule {
  /** all conditions that are set must be true */
  roles?: TensorRole[]
  name?: RegExp
  maxElements?: number
  type: TensorType
  /** also if the requested type is not a block format, for instance F16 or BF16 */
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

/** The names of a network's layers in LoRA files. */
export interface LoraNames<C> {
  /** matches an optional prefix of a layer's name */
  readonly prefix: RegExp
  /** the prefix that diffusers adds to the fields of PEFT's configuration */
  readonly component: string
  /** names that only LoRAs use, checked before the network's own table */
  readonly renames?: readonly LoraRename[]
  /** the number of rows of each part of a joined matrix, except the last part, which has the remaining rows */
  partRows?(config: C): number
  /** the only matrix whose input a LoRA may widen */
  readonly widens?: string
}

/** `leading`: the rows are this many parts at the beginning of the matrix. */
export type LoraRename = readonly [from: RegExp, to: string, how?: Change | { leading: number }]
