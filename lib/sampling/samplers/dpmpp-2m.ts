import { fromTwoEstimates } from './two-estimates.js'

/**
 * DPM-Solver++(2M): extrapolates the estimate of the image from this and the previous step.
 *
 * Source: Comfy-Org/ComfyUI `comfy/k_diffusion/sampling.py` (`sample_dpmpp_2m`); Lu et al., arXiv:2211.01095.
 */
export const dpmpp2m = fromTwoEstimates(({ sigma, next, previous }) => {
  const kept = next / sigma
  // half the ratio of this step's width to the previous one's, in log sigma
  const ahead = Math.log(sigma / next) / Math.log(previous / sigma) / 2
  return [(1 - kept) * (1 + ahead), -(1 - kept) * ahead]
})
