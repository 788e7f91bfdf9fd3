import { FluxError } from '../../errors.js'

/**
 * The bucket of T5's relative position bias for every pair of positions, [length * length], query-major. Entry
 * q * length + k is the bucket of key k for query q. The buckets are bidirectional: half of them are for keys that
 * follow. In each half, the first half of the buckets has one bucket per distance. The others widen logarithmically up
 * to `maxDistance`, beyond which all distances share the last one.
 *
 * @param length tokens
 * @param numBuckets a multiple of 4. T5 v1.1: 32
 * @param maxDistance greater than numBuckets / 4. T5 v1.1: 128
 * @throws FluxError FLUX_BAD_SHAPE
 * Source: huggingface/transformers `models/t5/modeling_t5.py` (`_relative_position_bucket`); Raffel et al.,
 * arXiv:1910.10683.
 */
export function relativePositionBuckets(length: number, numBuckets: number, maxDistance: number): Int32Array {
  if (!Number.isSafeInteger(length) || length < 1)
    throw new FluxError('FLUX_BAD_SHAPE', `length is ${length}: give a whole number from 1`)
  if (!Number.isSafeInteger(numBuckets) || numBuckets < 4 || numBuckets % 4 !== 0) {
    throw new FluxError('FLUX_BAD_SHAPE', `numBuckets is ${numBuckets}: give a multiple of 4`)
  }
  if (!(maxDistance > numBuckets / 4)) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `maxDistance is ${maxDistance}: give a number above numBuckets / 4, which is ${numBuckets / 4}`,
    )
  }
  const ofDistance = Int32Array.from({ length }, (_, distance) =>
    bucketOfDistance(distance, numBuckets / 2, maxDistance),
  )
  const buckets = new Int32Array(length * length)
  for (let query = 0, i = 0; query < length; query++) {
    for (let key = 0; key < length; key++) {
      buckets[i++] = key > query ? numBuckets / 2 + ofDistance[key - query]! : ofDistance[query - key]!
    }
  }
  return buckets
}

/**
 * If the quotient is a whole number (distances maxExact * 2^n, if maxDistance is one, too), float64 computes it
 * exactly. The result is therefore on the same side as the float32 result of the reference.
 */
function bucketOfDistance(distance: number, buckets: number, maxDistance: number): number {
  const maxExact = buckets / 2
  if (distance < maxExact) return distance
  const share = Math.log(distance / maxExact) / Math.log(maxDistance / maxExact)
  return Math.min(maxExact + Math.trunc(share * (buckets - maxExact)), buckets - 1)
}
