import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  goldenErrors,
  goldenIo,
  goldenRecipe,
  goldenValues,
  goldenWeights,
  type GoldenModel,
} from '../support/golden.js'
import { readTensors } from '../support/safetensors.js'

const MODELS: GoldenModel[] = ['flux-dev-tiny', 'flux-schnell-tiny', 'ae-tiny', 't5-tiny', 'clip-tiny']

describe.each(MODELS)('golden weights of %s', (model) => {
  const recipe = goldenRecipe(model)

  it('have the recorded hash, shapes and values at the ends', async () => {
    const path = await goldenWeights(model)
    const data = readFileSync(path).subarray(-4 * recipe.parameters)
    expect(createHash('sha256').update(data).digest('hex')).toBe(recipe.sha256_of_tensor_data)
    const tensors = readTensors(path)
    expect([...tensors].map(([name, { shape }]) => ({ name, shape }))).toEqual(
      recipe.tensors.map(({ name, shape }) => ({ name, shape })),
    )
    for (const { name, first, last } of recipe.tensors) {
      const values = tensors.get(name)!.data
      expect([...values.slice(0, 3), values.at(-1)], name).toEqual([...first, last])
    }
  })

  it('inputs and outputs are there, with a tolerance for every output', () => {
    const tolerances = goldenErrors()[`${model}.io.safetensors`]!
    const io = goldenIo(model)
    const outputs = [...io.keys()].filter(
      (name) => name.includes('.out.') && !(io.get(name)!.data instanceof Int32Array),
    )
    expect(outputs.length).toBeGreaterThan(0)
    for (const name of outputs) expect(tolerances[name]?.shape, name).toEqual(io.get(name)!.shape)
  })
})

describe('golden weights', () => {
  it('follow the formula of the README in big integers', () => {
    const U32 = 0xffffffffn
    const mix = (x: bigint) => {
      x = ((x ^ (x >> 16n)) * 0x7feb352dn) & U32
      x = ((x ^ (x >> 15n)) * 0x846ca68bn) & U32
      return x ^ (x >> 16n)
    }
    const tensor = { seed: 3127846001, mean: 1, scale: 2 ** -18 }
    const values = new Float32Array(100)
    goldenValues(values, tensor)
    for (let i = 0; i < values.length; i++) {
      const a = mix(mix(BigInt(i)) ^ BigInt(tensor.seed))
      const b = mix((a + 0x9e3779b9n) & U32)
      const n = (a & 65535n) + (a >> 16n) + (b & 65535n) + (b >> 16n) - 131070n
      expect(values[i]).toBe(Math.fround(tensor.mean + tensor.scale * Number(n)))
    }
  })

  it('reads constants and bytes of the other files', () => {
    expect(goldenIo('timestep-embedding').get('out.embedding')?.shape).toEqual([10, 256])
    expect(goldenIo('pipeline-dev-tiny').get('out.image_u8')?.data).toBeInstanceOf(Uint8Array)
  })
})
