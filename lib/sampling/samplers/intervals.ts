/** The step from one noise level to the next. */
export interface Interval {
  /** from 0 */
  index: number
  sigma: number
  next: number
}

/** Returns the steps between noise levels. */
export function intervals(sigmas: readonly number[]): Interval[] {
  return sigmas.slice(1).map((next, index) => ({ index, sigma: sigmas[index]!, next }))
}
