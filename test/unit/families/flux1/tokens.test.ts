import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { imageIds, packLatents, textIds, unpackLatents } from '../../../../lib/families/flux1/tokens.js'
import { readTensors } from '../../../support/safetensors.js'

const pipeline = readTensors(
  fileURLToPath(new URL('../../../golden/pipeline-dev-tiny.io.safetensors', import.meta.url)),
)
const f32 = (name: string) => pipeline.get(name)!.data as Float32Array

test('packing and unpacking equal the reference', () => {
  expect(packLatents(f32('in.noise'), 12, 16)).toEqual(f32('dbg.img_packed'))
  expect(unpackLatents(f32('out.latents.3'), 12, 16)).toEqual(f32('out.latents_unpacked'))
})

test('any number of channels packs and unpacks', () => {
  const latent = Float32Array.from({ length: 3 * 4 * 6 }, (_, i) => i)
  const packed = packLatents(latent, 4, 6)
  // the second token holds rows 0 and 1, columns 2 and 3 of each of the 3 channels
  expect([...packed.subarray(12, 24)]).toEqual([2, 3, 8, 9, 26, 27, 32, 33, 50, 51, 56, 57])
  expect(unpackLatents(packed, 4, 6)).toEqual(latent)
})

test('shapes that do not fit are refused', () => {
  expect(() => packLatents(new Float32Array(16 * 3 * 4), 3, 4)).toThrow(/4 wide and 3 high: give even/)
  expect(() => unpackLatents(new Float32Array(50), 4, 4)).toThrow(expect.objectContaining({ code: 'FLUX_BAD_SHAPE' }))
  expect(() => packLatents(new Float32Array(0), 2, 2)).toThrow(/0 values/)
})

test('position ids equal the reference', () => {
  expect(imageIds(6, 8)).toEqual(f32('dbg.img_ids'))
  expect(textIds(64)).toEqual(f32('dbg.txt_ids'))
})
