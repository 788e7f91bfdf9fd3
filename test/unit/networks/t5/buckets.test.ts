import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { relativePositionBuckets } from '../../../../lib/networks/t5/buckets.js'
import { readTensors } from '../../../support/safetensors.js'

const golden = readTensors(fileURLToPath(new URL('../../../golden/t5-tiny.io.safetensors', import.meta.url)))
const expectedBuckets = golden.get('const.bucket')!.data
const bucketOf = new Map(
  [...golden.get('const.relative_position')!.data].map((position, i) => [position, expectedBuckets[i]!]),
)

test('every pair of 512 positions has the bucket of the reference', () => {
  expect(bucketOf.size).toBe(1023)
  const buckets = relativePositionBuckets(512, 32, 128)
  expect(buckets.length).toBe(512 * 512)
  const wrong: string[] = []
  for (let query = 0; query < 512; query++) {
    for (let key = 0; key < 512; key++) {
      const expected = bucketOf.get(key - query)
      if (buckets[query * 512 + key] !== expected)
        wrong.push(`key ${key}, query ${query}: ${buckets[query * 512 + key]} for ${expected}`)
    }
  }
  expect(wrong).toEqual([])
})

test('counts that make no buckets are refused', () => {
  expect(() => relativePositionBuckets(0, 32, 128)).toThrow(/length is 0/)
  const error = { code: 'FLUX_BAD_SHAPE', message: 'numBuckets is 30: give a multiple of 4' }
  expect(() => relativePositionBuckets(4, 30, 128)).toThrow(expect.objectContaining(error))
  expect(() => relativePositionBuckets(4, 32, 8)).toThrow(/maxDistance is 8/)
})
