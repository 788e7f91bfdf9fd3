import type { ModelFile } from '../formats/model-file.js'
import type { TensorType } from '../formats/tensor-types.js'
import type { NetworkConfigs, NetworkKind } from '../networks/registry.js'

export interface TypeUse {
  /** tensors of the type */
  count: number
  bytes: number
}

/** What a model file holds, as far as its header tells. */
export interface Inspection {
  path: string
  format: ModelFile['format']
  /** bytes of the file */
  size: number
  /**
   * What the network is in a model: `transformer`, `t5`, `clip`, `autoencoder` or `preview decoder`; of a checkpoint that holds several, the
   * transformer first. Otherwise `lora` or `unknown`
   */
  role: string
  /** the structure in words, such as `FLUX.1 with guidance (dev)` */
  architecture: string
  /** bytes of memory that the network's weights take, of its own tensors alone; absent when it cannot be loaded */
  weights?: number
  /** numbers in all tensors together */
  parameters: number
  /** read from the shapes; absent when they do not make a network that can be loaded */
  config?: NetworkConfigs[NetworkKind]
  /** tensors */
  tensors: number
  types: Partial<Record<TensorType, TypeUse>>
  /** values of at most 200 characters; of arrays only the length */
  metadata: Record<string, string | number | boolean>
  /** the file carries its tokenizer (GGUF text encoders) */
  tokenizer: boolean
  /** why the file cannot be loaded; empty when it can */
  problems: string[]
  /** of a transformer: seconds that one step at 1024 x 1024 will roughly take here; absent where that is not known, on GPUs */
  step?: number
}
