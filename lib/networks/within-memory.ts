import { FluxError } from '../errors.js'

/**
 * Tries one size after the other while memory does not suffice.
 *
 * @param sizes the largest first; at least one
 * @throws what `attempt` throws: FLUX_OUT_OF_MEMORY if the last size does not fit, anything else at once
 */
export async function withinMemory<Size, T>(
  sizes: readonly Size[],
  attempt: (size: Size) => Promise<T>,
): Promise<{ output: T; size: Size }> {
  for (const [i, size] of sizes.entries()) {
    try {
      return { output: await attempt(size), size }
    } catch (error) {
      const isShort = error instanceof FluxError && error.code === 'FLUX_OUT_OF_MEMORY'
      if (!isShort || i === sizes.length - 1) throw error
    }
  }
  throw new RangeError('no size is given')
}
