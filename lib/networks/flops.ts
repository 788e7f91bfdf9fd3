import type { LayoutTensor } from './layout.js'

/**
 * Multiplications and additions of one evaluation. The operations that are not counted (norms, activations, rotations)
 * are less than a hundredth.
 */
export interface Flops {
  /** products with weights: linear layers and convolutions */
  products: number
  /** products of queries with keys, and of probabilities with values */
  attention: number
}

/** The parts of an image that take the time: the prompt, the images that are read, one evaluation, the decoder. */
export type Work = 'text' | 'encode' | 'step' | 'decode'

export const NO_FLOPS: Flops = { products: 0, attention: 0 }

export function sumOf(all: readonly Flops[]): Flops {
  const sum = { ...NO_FLOPS }
  for (const { products, attention } of all) {
    sum.products += products
    sum.attention += attention
  }
  return sum
}

export const timesFlops = (times: number, { products, attention }: Flops): Flops => ({
  products: times * products,
  attention: times * attention,
})

/** Each element of a weight is multiplied with each column, and added. */
export function productFlops(layout: LayoutTensor[], columns: (name: string) => number): number {
  const weights = layout.filter(({ role }) => role === 'matrix' || role === 'convolution')
  return weights.reduce((sum, { name, shape }) => sum + 2 * shape.reduce((a, b) => a * b, 1) * columns(name), 0)
}

export const attentionFlops = (tokens: number, width: number): number => 4 * tokens ** 2 * width
