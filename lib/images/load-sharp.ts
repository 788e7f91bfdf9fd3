import { FluxError } from '../errors.js'

/**
 * Loads the optional package sharp. Public files do not export anything that has sharp in its type: such a declaration
 * does not compile without the package.
 *
 * @param what needs it, for the message
 * @param otherwise what helps besides installing it
 * @throws FluxError FLUX_UNSUPPORTED when it is not installed
 */
export async function loadSharp(what: string, otherwise: string): Promise<typeof import('sharp').default> {
  const { default: sharp } = await import('sharp').catch((cause: unknown) => {
    const remedy = `run npm install sharp, or ${otherwise}`
    throw new FluxError('FLUX_UNSUPPORTED', `${what} needs the package sharp: ${remedy}`, { cause })
  })
  return sharp
}
