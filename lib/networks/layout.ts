import { FluxError } from '../errors.js'
import type { TensorInfo } from '../formats/model-file.js'

/** The part of a tensor that a configuration is read from. */
export type TensorShape = Pick<TensorInfo, 'name' | 'shape'>

/** The purpose of a tensor. It determines the types that the tensor may have. */
export type TensorRole = 'matrix' | 'embedding' | 'convolution' | 'bias' | 'norm'

export interface LayoutTensor {
  /** canonical, which is the official name */
  name: string
  /** row-major, as torch prints it */
  shape: number[]
  role: TensorRole
}

/** `name.weight` [out, in] and, with a bias, `name.bias` [out]. */
export function linear(name: string, out: number, input: number, bias = true): LayoutTensor[] {
  const weight: LayoutTensor = { name: `${name}.weight`, shape: [out, input], role: 'matrix' }
  return bias ? [weight, { name: `${name}.bias`, shape: [out], role: 'bias' }] : [weight]
}

/** `name.weight` and `name.bias`, both [size]. */
export function affineNorm(name: string, size: number): LayoutTensor[] {
  return [
    { name: `${name}.weight`, shape: [size], role: 'norm' },
    { name: `${name}.bias`, shape: [size], role: 'norm' },
  ]
}

/** The numbers 0 to n - 1. */
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/**
 * The shape of a tensor that a configuration is read from.
 *
 * @throws {FluxError} FLUX_BAD_FILE if it is missing or has another rank
 */
export function shapeOf(tensors: Map<string, TensorShape>, name: string, rank: number): number[] {
  const tensor = tensors.get(name)
  if (!tensor) throw new FluxError('FLUX_BAD_FILE', `tensor ${name} is missing. Use a complete copy of the model`)
  if (tensor.shape.length === rank) return tensor.shape
  throw new FluxError(
    'FLUX_BAD_FILE',
    `tensor ${name} has shape [${tensor.shape.join(', ')}]; ${rank} dimensions are expected`,
  )
}

/**
 * Counts the blocks from the names that begin with `prefix` and a number.
 *
 * @param first the end of the name of a block's first tensor, for the message about a gap
 * @throws {FluxError} FLUX_BAD_FILE if a number is missing
 */
export function countBlocks(names: Iterable<string>, prefix: string, first: string): number {
  const numbers = new Set<number>()
  for (const name of names) {
    if (!name.startsWith(prefix)) continue
    const [digits] = /^\d{1,6}(?=\.)/.exec(name.slice(prefix.length)) ?? []
    if (digits !== undefined) numbers.add(Number(digits))
  }
  const gap = range(numbers.size).find((number) => !numbers.has(number))
  if (gap === undefined) return numbers.size
  throw new FluxError(
    'FLUX_BAD_FILE',
    `tensor ${prefix}${gap}.${first} is missing, though later blocks are there. Use a complete copy of the model`,
  )
}
