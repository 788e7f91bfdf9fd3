// LoRAs written in the names of many programs, and the weights that they are to act as: changed in F32, apart from the library's own code.
import { join } from 'node:path'
import { expect } from 'vitest'
import { convert } from '../../lib/tools/convert.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { FluxTransformer, type LoraOptions } from '../../lib/nn.js'
import { onTestBackend } from './backend.js'
import { devCase } from './cases.js'
import { rewrite } from './dialects.js'
import { goldenValues, goldenWeights } from './golden.js'
import { readTensors, relL2, type Tensor } from './safetensors.js'

export const RANK = 4
/** The transformer that the LoRAs are for. */
export const official = await goldenWeights('flux-dev-tiny')
export const weights = readTensors(official)
export const hidden = weights.get('img_in.weight')!.shape[0]!
/** A layer's name as kohya's scripts write it. */
export const flat = (layer: string): string => layer.replaceAll('.', '_')

/** Numbers from a seed, close to normal. */
export function numbers(shape: number[], seed: number, scale = 4e-6): Tensor {
  const data = new Float32Array(shape.reduce((product, size) => product * size, 1))
  goldenValues(data, { seed, mean: 0, scale })
  return { shape, data }
}

export const tensorSource = (name: string, { shape, data }: Tensor): TensorSource => ({
  name,
  shape,
  type: 'F32',
  data: new Uint8Array((data as Float32Array).slice().buffer),
})

export const scalar = (name: string, value: number): TensorSource =>
  tensorSource(name, { shape: [], data: Float32Array.of(value) })

/** a [rows, rank] times b [rank, columns] */
export function product(a: Tensor, b: Tensor): Float64Array {
  const [rows, rank, columns] = [a.shape[0]!, a.shape[1]!, b.shape[1]!]
  const result = new Float64Array(rows * columns)
  for (let i = 0; i < rows; i++) {
    for (let r = 0; r < rank; r++) {
      const factor = a.data[i * rank + r]!
      for (let j = 0; j < columns; j++) result[i * columns + j]! += factor * b.data[r * columns + j]!
    }
  }
  return result
}

interface Matrix {
  shape: number[]
  data: ArrayLike<number>
}

/** Every element of `a` times all of `b`, block by block. */
export function kronecker(a: Matrix, b: Matrix): Float64Array {
  const [[p, q], [r, s]] = [a.shape as [number, number], b.shape as [number, number]]
  const result = new Float64Array(p * q * r * s)
  for (let i = 0; i < p * r; i++) {
    for (let j = 0; j < q * s; j++) {
      result[i * q * s + j] = a.data[Math.floor(i / r) * q + Math.floor(j / s)]! * b.data[(i % r) * s + (j % s)]!
    }
  }
  return result
}

/** The same rows with the upper and the lower half in each other's place. */
export function halvesSwapped<
  T extends { slice(from?: number, to?: number): T; set(values: T, at: number): void; length: number },
>(data: T): T {
  const [half, result] = [data.length / 2, data.slice()]
  result.set(data.slice(half), 0)
  result.set(data.slice(0, half), half)
  return result
}

/** What is added to a tensor of the model from one of its rows on, by its name. */
export type Deltas = Map<string, { first?: number; delta: ArrayLike<number> }[]>

/** The weights in `path` with `scale` times the deltas, and with other changes by name. */
export function changedWeights(
  path: string,
  out: string,
  deltas: Deltas,
  scale = 1,
  others = new Map<string, (old: Float32Array) => Float32Array>(),
): Promise<string> {
  predictions.delete(out)
  return rewrite(path, out, (name, tensor) => {
    const data = new Float32Array(tensor.data as Float32Array)
    const width = tensor.shape[1] ?? 1
    for (const { first = 0, delta } of deltas.get(name) ?? [])
      for (let i = 0; i < delta.length; i++) data[first * width + i]! += scale * delta[i]!
    return [[name, { ...tensor, data: others.get(name)?.(data) ?? data }]]
  })
}

/** of the files that {@link changedWeights} wrote */
const predictions = new Map<string, Float32Array>()

export async function predicted(path: string): Promise<Float32Array> {
  const known = predictions.get(path)
  if (known) return known
  await using flux = await FluxTransformer.load(path, onTestBackend)
  const prediction = await flux.predict(devCase('b'))
  predictions.set(path, prediction)
  return prediction
}

export async function loraFile(
  path: string,
  sources: TensorSource[],
  metadata?: Record<string, string>,
): Promise<string> {
  await writeModelFile(path, sources, metadata)
  return path
}

/** `convert` has to write the weights of `expected` where it merges the LoRA, of which nothing may be left over. */
export async function expectToMerge(lora: LoraOptions, expected: string, folder: string): Promise<void> {
  const { path, unmatched } = await convert(official, join(folder, 'converted.safetensors'), {
    type: 'F32',
    loras: [lora],
  })
  expect(unmatched).toEqual([[]])
  const written = readTensors(path)
  for (const [name, { data }] of readTensors(expected))
    expect(relL2(written.get(name)!.data as Float32Array, data as Float32Array), name).toBeLessThan(1e-6)
}

/**
 * A LoRA has to act on the loaded transformer as the weights of `expected` do, which move its prediction by `change` and more; `error` is what may lie
 * between them. Nothing in the file may be left over.
 */
export async function expectToAct(
  flux: FluxTransformer,
  lora: LoraOptions,
  expected: string,
  // ggml's GELU comes from a table of half precision
  { change = 0.005, error = 1e-3 } = {},
): Promise<void> {
  expect(await flux.adapt([lora])).toEqual([[]])
  const [actual, wanted] = [await flux.predict(devCase('b')), await predicted(expected)]
  await flux.adapt([])
  expect(relL2(wanted, await flux.predict(devCase('b')))).toBeGreaterThan(change)
  expect(relL2(actual, wanted)).toBeLessThan(error)
}

/** {@link expectToAct} and {@link expectToMerge} */
export async function expectToActAs(
  flux: FluxTransformer,
  lora: LoraOptions,
  expected: string,
  folder: string,
  limits: { change?: number; error?: number } = {},
): Promise<void> {
  await expectToAct(flux, lora, expected, limits)
  await expectToMerge(lora, expected, folder)
}
