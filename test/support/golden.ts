import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { readTensors } from './safetensors.js'

export type GoldenModel =
  | 'flux-dev-tiny'
  | 'flux-schnell-tiny'
  | 'flux-fill-tiny'
  | 'flux-control-tiny'
  | 'flux-dev33-tiny'
  | 'ae-tiny'
  | 't5-tiny'
  | 'clip-tiny'
  | 'clip-vision-tiny'
  | 'siglip-tiny'
  | 'redux-tiny'
  | 'controlnet-tiny'
  | 'controlnet-union-tiny'
  | 'controlnet-xlabs-tiny'
  | 'ip-adapter-v1-tiny'
  | 'ip-adapter-v2-tiny'
  | 'rrdb-x4-tiny'
  | 'rrdb-x2-tiny'
  | 'rrdb-x1-tiny'
  | 'rrdb-trunk-tiny'
  | 'rrdb-old-x1-tiny'
  | 'rrdb-old-x2-tiny'
  | 'rrdb-old-x4-tiny'
  | 'rrdb-old-x8-tiny'

/** Files of inputs and outputs that belong to several models. */
export type GoldenCases =
  | 'timestep-embedding'
  | 'pipeline-dev-tiny'
  | 'fill'
  | 'control'
  | 'kontext'
  | 'kontext-two'
  | 'img2img'
  | 'img2img-diffusers'
  | 'inpaint'
  | 'inpaint-comfy'
  | 'true-cfg'
  | 'noise-samplers'
  | 'redux'
  | 'ip-adapter'
  | 'controlnet'
  | 'controlnet-xlabs'
  | 'rrdb'

/** One tensor of `<model>.weights.json`; test/golden/README.md tells how its values follow from `seed`, `mean` and `scale`. */
export interface GoldenTensor {
  name: string
  shape: number[]
  seed: number
  mean: number
  scale: number
  first: number[]
  last: number
}

export interface GoldenRecipe {
  model: GoldenModel
  config: Record<string, number | number[] | boolean | string>
  parameters: number
  sha256_of_tensor_data: string
  tensors: GoldenTensor[]
}

/** The entry of one tensor in `errors.json`. */
export interface GoldenTolerance {
  kind: 'out' | 'dbg'
  shape: number[]
  suggested: { rel_l2?: number; max_abs?: number; min_equal_fraction?: number; exact?: boolean }
}

const directory = fileURLToPath(new URL('../golden/', import.meta.url))
const cache = fileURLToPath(new URL('../../node_modules/.cache/ggflux/golden/', import.meta.url))

export function goldenRecipe(model: GoldenModel): GoldenRecipe {
  return JSON.parse(readFileSync(`${directory}${model}.weights.json`, 'utf8'))
}

/** Inputs, outputs and values on the way, by their full names (`a.out.pred`). */
export function goldenIo(model: GoldenModel | GoldenCases): ReturnType<typeof readTensors> {
  return readTensors(`${directory}${model}.io.safetensors`)
}

/** The suggested tolerance of every `out` and `dbg` tensor: file name (`flux-dev-tiny.io.safetensors`), then tensor name. */
export function goldenErrors(): Record<string, Record<string, GoldenTolerance>> {
  return JSON.parse(readFileSync(`${directory}errors.json`, 'utf8'))
}

/** Fills `out` with a tensor's values: float32(mean + scale * n) with n from two hashes of the index, close to normal. */
export function goldenValues(
  out: Float32Array,
  { seed, mean, scale }: Pick<GoldenTensor, 'seed' | 'mean' | 'scale'>,
): void {
  for (let i = 0; i < out.length; i++) {
    let a = i
    a = Math.imul(a ^ (a >>> 16), 0x7feb352d)
    a = Math.imul(a ^ (a >>> 15), 0x846ca68b)
    a ^= a >>> 16
    a ^= seed
    a = Math.imul(a ^ (a >>> 16), 0x7feb352d)
    a = Math.imul(a ^ (a >>> 15), 0x846ca68b)
    a ^= a >>> 16
    let b = (a + 0x9e3779b9) | 0
    b = Math.imul(b ^ (b >>> 16), 0x7feb352d)
    b = Math.imul(b ^ (b >>> 15), 0x846ca68b)
    b ^= b >>> 16
    out[i] = mean + scale * ((a & 65535) + (a >>> 16) + (b & 65535) + (b >>> 16) - 131070)
  }
}

/** All weights of a model, one after the other in the order of the recipe; checked against its first and last values and its hash. */
function makeValues(recipe: GoldenRecipe): Uint8Array {
  const data = new Float32Array(recipe.parameters)
  let at = 0
  for (const tensor of recipe.tensors) {
    const values = data.subarray(at, (at += elements(tensor)))
    goldenValues(values, tensor)
    const ends = [...values.subarray(0, tensor.first.length), values[values.length - 1]]
    const expected = [...tensor.first, tensor.last]
    if (ends.some((value, i) => value !== expected[i]))
      throw new Error(`${recipe.model}: ${tensor.name} is ${ends}, not ${expected}`)
  }
  if (at !== data.length) throw new Error(`${recipe.model}: ${at} values made, ${data.length} expected`)
  const bytes = new Uint8Array(data.buffer)
  const hash = sha256(bytes)
  if (hash !== recipe.sha256_of_tensor_data) throw new Error(`${recipe.model}: the weights' sha256 is ${hash}`)
  return bytes
}

/**
 * Path of a model's weights as an F32 safetensors file. Made on the first call, bit for bit as the recipe says, and kept in
 * `node_modules/.cache`; a file that was there already is used after its data's hash was checked.
 */
export async function goldenWeights(model: GoldenModel): Promise<string> {
  const recipe = goldenRecipe(model)
  const path = `${cache}${model}.safetensors`
  const header = safetensorsHeader(recipe)
  if (checked.has(model)) return path
  if (!existsSync(path) || sha256(readFileSync(path).subarray(header.length)) !== recipe.sha256_of_tensor_data) {
    mkdirSync(cache, { recursive: true })
    const partial = `${path}.${process.pid}`
    try {
      writeFileSync(partial, Buffer.concat([header, makeValues(recipe)]))
      renameSync(partial, path)
    } finally {
      rmSync(partial, { force: true })
    }
  }
  checked.add(model)
  return path
}

const checked = new Set<GoldenModel>()

/** Written here and not by `writeModelFile`, so that the golden files test the reader and do not depend on the writer. */
function safetensorsHeader(recipe: GoldenRecipe): Buffer {
  let end = 0
  const entries = recipe.tensors.map((tensor) => {
    const start = end
    end += 4 * elements(tensor)
    return [tensor.name, { dtype: 'F32', shape: tensor.shape, data_offsets: [start, end] }] as const
  })
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const padded = Buffer.concat([Buffer.alloc(8), json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')])
  padded.writeBigUInt64LE(BigInt(padded.length - 8))
  return padded
}

function elements(tensor: GoldenTensor): number {
  return tensor.shape.reduce((product, size) => product * size, 1)
}

function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}
