import type { LayoutTensor, TensorRole } from '../networks/layout.js'
import { elementCount, TENSOR_TYPES, type TensorType } from '../formats/tensor-types.js'

interface PrecisionRule {
  /** all of the given conditions have to hold */
  roles?: TensorRole[]
  name?: RegExp
  maxElements?: number
  type: TensorType
  /** also where the wanted type is no block format, F16 or BF16 for instance */
  always?: true
}

/**
 * What converters keep out of quantisation; the first rule that holds decides. Biases, norms and small tensors cost nothing and matter
 * much; the layers at the ends of the transformer carry everything; kernels of convolutions have rows of 1 or 3 elements.
 * Sources: city96/ComfyUI-GGUF `tools/convert.py` (and the sizes of its FLUX.1 files), ggml-org/llama.cpp `src/llama-quant.cpp` (T5).
 */
const KEPT: PrecisionRule[] = [
  { roles: ['bias', 'norm'], type: 'F32', always: true },
  { maxElements: 1024, type: 'F32', always: true },
  { name: /^(img_in|txt_in|time_in|vector_in|guidance_in|final_layer)\./, type: 'BF16' },
  { name: /relative_attention_bias|position_embedding/, type: 'F32' },
  { roles: ['convolution'], type: 'F16' },
]

/** Where a row is no whole number of blocks. */
const FALLBACK: TensorType = 'F16'

/** The type in which a converter to GGUF writes a tensor when `type` is wanted for the model. */
export function storedType(tensor: LayoutTensor, type: TensorType): TensorType {
  const { blockSize } = TENSOR_TYPES[type]
  const rule = KEPT.find(
    ({ roles, name, maxElements, always }) =>
      (always || blockSize > 1) &&
      (roles?.includes(tensor.role) ?? true) &&
      (name?.test(tensor.name) ?? true) &&
      (maxElements === undefined || elementCount(tensor.shape) <= maxElements),
  )
  if (rule) return rule.type
  return tensor.shape.at(-1)! % blockSize === 0 ? type : FALLBACK
}
