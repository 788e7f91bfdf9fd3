import { FluxError } from '../../errors.js'

/**
 * Sinusoidal embedding of a time step or guidance value: dim/2 cosines, then dim/2 sines, of
 * timeFactor * t * maxPeriod^(-i / (dim/2)). It is computed in float64, so it differs by up to 1.2e-3 from references
 * that round the frequencies to float32.
 *
 * @param t 0 to 1 for time, about 1 to 30 for guidance; the factor 1000 is applied inside
 * @param dim even
 * @throws FluxError FLUX_BAD_SHAPE for an odd `dim`
 * Source: black-forest-labs/flux `src/flux/modules/layers.py` (`timestep_embedding`).
 */
export function timestepEmbedding(t: number, dim = 256, maxPeriod = 10000, timeFactor = 1000): Float32Array {
  if (!Number.isSafeInteger(dim) || dim < 2 || dim % 2 !== 0) {
    throw new FluxError('FLUX_BAD_SHAPE', `dim is ${dim}: give an even number from 2`)
  }
  const half = dim / 2
  const embedding = new Float32Array(dim)
  for (let i = 0; i < half; i++) {
    const phase = timeFactor * t * maxPeriod ** (-i / half)
    embedding[i] = Math.cos(phase)
    embedding[half + i] = Math.sin(phase)
  }
  return embedding
}
