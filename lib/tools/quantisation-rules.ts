import type { NetworkDefinition, PrecisionRule } from '../networks/definition.js'
import type { LayoutTensor } from '../networks/layout.js'
import { elementCount, TENSOR_TYPES, type TensorType } from '../formats/tensor-types.js'

/**
 * The tensors of any network that converters do not quantise. Biases, norms and small tensors take little space and
 * matter a lot. Convolution kernels have rows of 1 or 3 elements.
 * Source: city96/ComfyUI-GGUF `tools/convert.py` (and the sizes of its FLUX.1 files).
 */
const SMALL: PrecisionRule[] = [
  { roles: ['bias', 'norm'], type: 'F32', always: true },
  { maxElements: 1024, type: 'F32', always: true },
]
const CONVOLUTIONS: PrecisionRule = { roles: ['convolution'], type: 'F16' }

/** The type for a row that is not a whole number of blocks. */
const FALLBACK: TensorType = 'F16'

/** The type that a GGUF converter uses for a tensor if `type` is requested for the model. */
export function storedType(
  { keep }: Pick<NetworkDefinition, 'keep'>,
  tensor: LayoutTensor,
  type: TensorType,
): TensorType {
  const { blockSize } = TENSOR_TYPES[type]
  const rule = [...SMALL, ...keep, CONVOLUTIONS].find(
    ({ roles, name, maxElements, always }) =>
      (always || blockSize > 1) &&
      (roles?.includes(tensor.role) ?? true) &&
      (name?.test(tensor.name) ?? true) &&
      (maxElements === undefined || elementCount(tensor.shape) <= maxElements),
  )
  if (rule) return rule.type
  return tensor.shape.at(-1)! % blockSize === 0 ? type : FALLBACK
}
