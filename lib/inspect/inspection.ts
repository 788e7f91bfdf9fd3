import type { ModelFile } from '../formats/model-file.js'
import type { TensorType } from '../formats/tensor-types.js'
import type { NetworkConfigs, NetworkKind } from '../networks/registry.js'

export interface TypeUse {
  /** number of tensors of the type */
  count: number
  bytes: number
}

/** What a model file contains, according to its header. */
export interface Inspection {
  path: string
  format: ModelFile['format']
  /** size of the file in bytes */
  size: number
  /**
   * The role of the network in a model: `transformer`, `t5`, `clip`, `autoencoder` or `preview decoder`. For a
   * checkpoint with several networks, the transformer comes first. Otherwise `lora` or `unknown`
   */
  role: string
  /** the structure in words, such as `FLUX.1 with guidance (dev)` */
  architecture: string
  /** bytes of memory for the network's own weights; absent when it cannot be loaded */
  weights?: number
  /** number of values in all tensors together */
  parameters: number
  /** derived from the shapes; absent when they do not form a network that can be loaded */
  config?: NetworkConfigs[NetworkKind]
  /** number of tensors */
  tensors: number
  types: Partial<Record<TensorType, TypeUse>>
  /** values of at most 200 characters; for arrays only the length */
  metadata: Record<string, string | number | boolean>
  /** whether the file contains its tokenizer (GGUF text encoders) */
  tokenizer: boolean
  /** what a model needs in addition to this file */
  needs: string[]
  /** why the file cannot be loaded; empty when it can */
  problems: string[]
  /**
   * for a transformer: estimated seconds of one step at 1024 x 1024 on this machine; absent when unknown, as on GPUs
   */
  step?: number
}
