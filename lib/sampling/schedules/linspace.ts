/** Returns `count` equally spaced numbers, the first `from`, the last `to`; [from] for a count of 1. */
export function linspace(from: number, to: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + (i * (to - from)) / Math.max(count - 1, 1))
}
