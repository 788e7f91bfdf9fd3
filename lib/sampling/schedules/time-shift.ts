/**
 * FLUX's resolution-dependent shift: exp(mu) / (exp(mu) + (1/t - 1)^sigma); 0 for t = 0. It is the identity for mu = 0,
 * sigma = 1.
 *
 * Source: black-forest-labs/flux `src/flux/sampling.py` (`time_shift`); Esser et al., arXiv:2403.03206, section 5.3.2.
 */
export function timeShift(mu: number, sigma: number, t: number): number {
  const shift = Math.exp(mu)
  return shift / (shift + (1 / t - 1) ** sigma)
}
