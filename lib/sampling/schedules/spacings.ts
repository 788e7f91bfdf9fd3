import { linspace } from './linspace.js'

const RHO = 7

/**
 * Karras et al., arXiv:2206.00364, equation 5: `steps` levels, equally spaced in their seventh root.
 */
export function karrasSpacing(most: number, least: number, steps: number): number[] {
  return linspace(most ** (1 / RHO), least ** (1 / RHO), steps).map((root) => root ** RHO)
}

/** `steps` levels, equally spaced in their logarithm. */
export function exponentialSpacing(most: number, least: number, steps: number): number[] {
  return linspace(Math.log(most), Math.log(least), steps).map(Math.exp)
}
