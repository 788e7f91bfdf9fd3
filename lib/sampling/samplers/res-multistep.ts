import { fromTwoEstimates } from './two-estimates.js'

/**
 * RES: exponential integrator of second order from this and the previous estimate of the image.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_res_multistep`); Zhang et al., arXiv:2308.02157.
 */
export const resMultistep = fromTwoEstimates(({ sigma, next, previous }) => {
  const width = Math.log(sigma / next)
  // place of the previous estimate, as a share of this step; negative
  const before = Math.log(sigma / previous) / width
  const phi1 = (1 - next / sigma) / width
  const phi2 = (1 - phi1) / width
  return [width * (phi1 - phi2 / before), (width * phi2) / before]
})
