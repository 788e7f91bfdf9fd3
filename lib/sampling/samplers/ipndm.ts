import { linearMultistep } from './linear-multistep.js'

/** weights of Adams and Bashforth for equal steps */
const WEIGHTS = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
] as const satisfies readonly (readonly number[])[]

/**
 * Improved pseudo numerical method: up to four directions with the weights for equal steps, whatever the steps are.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_ipndm`); Zhang, Chen, arXiv:2204.13902.
 */
export const ipndm = linearMultistep(4, (levels, next) =>
  WEIGHTS[levels.length - 1]!.map((weight) => weight * (next - levels[0]!)),
)
