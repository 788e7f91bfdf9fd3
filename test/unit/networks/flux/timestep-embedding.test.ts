import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { timestepEmbedding } from '../../../../lib/networks/flux/timestep-embedding.js'
import { readTensors } from '../../../support/safetensors.js'

test('the sinusoidal embedding equals the reference', () => {
  const path = new URL('../../../golden/timestep-embedding.io.safetensors', import.meta.url)
  const golden = readTensors(fileURLToPath(path))
  const expected = golden.get('out.embedding')!.data
  const embeddings = [...golden.get('in.t')!.data].flatMap((t) => [...timestepEmbedding(t)])
  expect(embeddings).toHaveLength(expected.length)
  // the reference rounds the frequencies to float32; its own error against float64 is 1.2e-3
  expect(Math.max(...embeddings.map((value, i) => Math.abs(value - expected[i]!)))).toBeLessThanOrEqual(0.004)
})

test('an odd length of the embedding is refused', () => {
  const error = { code: 'FLUX_BAD_SHAPE', message: 'dim is 7: give an even number from 2' }
  expect(() => timestepEmbedding(0.5, 7)).toThrow(expect.objectContaining(error))
})
