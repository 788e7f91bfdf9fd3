// The FLUX.1 transformer and its ControlNets written out row by row in float64, after black-forest-labs/flux `src/flux/model.py` and TheMistoAI/MistoControlNet-Flux-dev
// `modules/misto_controlnet.py` and `modules/utils.py`. For structures that the reference data has no case of; the data checks it.
import { timestepEmbedding } from '../../lib/networks/flux/timestep-embedding.js'
import type { Tensor } from './safetensors.js'

type Weights = Map<string, Tensor>
type Rows = Float64Array[]

export interface ReferenceInput {
  /** [L, channels] */
  img: Rows
  /** of text and image, text first: [T + L][3] */
  ids: number[][]
  txt: Rows
  vec: Float64Array
  timestep: number
  guidance: number
}

const HEAD = 128
const AXES = [16, 56, 56]

export const rowsOf = (values: ArrayLike<number>, width: number): Rows =>
  Array.from({ length: values.length / width }, (_, i) =>
    Float64Array.from({ length: width }, (_, j) => values[i * width + j]!),
  )

const map = (x: Rows, f: (value: number, column: number) => number): Rows => x.map((row) => row.map(f))
export const sum = (a: Rows, b: Rows): Rows => a.map((row, i) => row.map((value, j) => value + b[i]![j]!))
export const silu = (x: number): number => x / (1 + Math.exp(-x))
const gelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))

export function linear(t: Weights, name: string, x: Rows): Rows {
  const { data: w, shape } = t.get(`${name}.weight`)!
  const b = t.get(`${name}.bias`)!.data
  const [out, width] = shape as [number, number]
  return x.map((row) => {
    const y = new Float64Array(out)
    for (let o = 0; o < out; o++) {
      let dot = 0
      for (let i = 0; i < width; i++) dot += w[o * width + i]! * row[i]!
      y[o] = dot + b[o]!
    }
    return y
  })
}

function layerNorm(x: Rows): Rows {
  return x.map((row) => {
    const mean = row.reduce((a, b) => a + b) / row.length
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length
    return row.map((value) => (value - mean) / Math.sqrt(variance + 1e-6))
  })
}

type Modulation = [shift: Float64Array, scale: Float64Array, gate: Float64Array]
function modulation(t: Weights, name: string, vec: Float64Array): Modulation[] {
  const [all] = linear(t, name, [vec.map(silu)])
  const part = (i: number) => all!.subarray(i * vec.length, (i + 1) * vec.length)
  return Array.from({ length: all!.length / vec.length / 3 }, (_, i) => [part(3 * i), part(3 * i + 1), part(3 * i + 2)])
}
const modulate = (x: Rows, [shift, scale]: Modulation): Rows =>
  map(layerNorm(x), (value, j) => value * (1 + scale[j]!) + shift[j]!)
const gated = (x: Rows, y: Rows, [, , gate]: Modulation): Rows =>
  sum(
    x,
    map(y, (value, j) => value * gate[j]!),
  )

type Heads = { q: Rows; k: Rows; v: Rows }
function heads(t: Weights, norm: string, x: Rows, hidden: number): Heads {
  const part = (i: number) => x.map((row) => row.slice(i * hidden, (i + 1) * hidden))
  const normed = (y: Rows, name: string) => {
    const scale = t.get(`${norm}.${name}.scale`)!.data
    return y.map((row) => {
      const out = row.slice()
      for (let h = 0; h < hidden; h += HEAD) {
        const squares = row.subarray(h, h + HEAD).reduce((a, b) => a + b * b, 0) / HEAD
        for (let j = 0; j < HEAD; j++) out[h + j] = (row[h + j]! / Math.sqrt(squares + 1e-6)) * scale[j]!
      }
      return out
    })
  }
  return { q: normed(part(0), 'query_norm'), k: normed(part(1), 'key_norm'), v: part(2) }
}

function rotate(x: Rows, ids: number[][]): Rows {
  return x.map((row, n) => {
    const out = row.slice()
    for (let h = 0; h < row.length; h += HEAD) {
      for (let axis = 0, at = h; axis < 3; at += AXES[axis++]!) {
        for (let j = 0; j < AXES[axis]!; j += 2) {
          const angle = ids[n]![axis]! / 10000 ** (j / AXES[axis]!)
          const [a, b, cos, sin] = [row[at + j]!, row[at + j + 1]!, Math.cos(angle), Math.sin(angle)]
          out[at + j] = a * cos - b * sin
          out[at + j + 1] = a * sin + b * cos
        }
      }
    }
    return out
  })
}

function attention({ q, k, v }: Heads, ids: number[][]): Rows {
  const [query, key] = [rotate(q, ids), rotate(k, ids)]
  return query.map((row) => {
    const out = new Float64Array(row.length)
    for (let h = 0; h < row.length; h += HEAD) {
      const scores = key.map((other) => {
        let dot = 0
        for (let j = h; j < h + HEAD; j++) dot += row[j]! * other[j]!
        return Math.exp(dot / Math.sqrt(HEAD))
      })
      const total = scores.reduce((a, b) => a + b)
      for (let j = h; j < h + HEAD; j++) out[j] = v.reduce((all, other, n) => all + scores[n]! * other[j]!, 0) / total
    }
    return out
  })
}

export function doubleBlock(
  t: Weights,
  i: number,
  img: Rows,
  txt: Rows,
  vec: Float64Array,
  ids: number[][],
): [Rows, Rows] {
  const streams = [txt, img].map((x, s) => {
    const name = `double_blocks.${i}.${s === 0 ? 'txt' : 'img'}`
    const mod = modulation(t, `${name}_mod.lin`, vec)
    const qkv = linear(t, `${name}_attn.qkv`, modulate(x, mod[0]!))
    return { x, name, mod, parts: heads(t, `${name}_attn.norm`, qkv, vec.length) }
  })
  const joined = (part: keyof Heads) => streams.flatMap(({ parts }) => parts[part])
  const attended = attention({ q: joined('q'), k: joined('k'), v: joined('v') }, ids)
  const [newTxt, newImg] = streams.map(({ x, name, mod }, s) => {
    const own = s === 0 ? attended.slice(0, txt.length) : attended.slice(txt.length)
    const y = gated(x, linear(t, `${name}_attn.proj`, own), mod[0]!)
    const mlp = linear(t, `${name}_mlp.2`, map(linear(t, `${name}_mlp.0`, modulate(y, mod[1]!)), gelu))
    return gated(y, mlp, mod[1]!)
  })
  return [newImg!, newTxt!]
}

export function singleBlock(t: Weights, i: number, x: Rows, vec: Float64Array, ids: number[][]): Rows {
  const name = `single_blocks.${i}`
  const [mod] = modulation(t, `${name}.modulation.lin`, vec)
  const projected = linear(t, `${name}.linear1`, modulate(x, mod!))
  const attended = attention(heads(t, `${name}.norm`, projected, vec.length), ids)
  const both = projected.map((row, n) => Float64Array.of(...attended[n]!, ...row.subarray(3 * vec.length).map(gelu)))
  return gated(x, linear(t, `${name}.linear2`, both), mod!)
}

export function conditioning(t: Weights, { vec, timestep, guidance }: ReferenceInput): Float64Array {
  const embed = (name: string, x: Float64Array) =>
    linear(t, `${name}.out_layer`, map(linear(t, `${name}.in_layer`, [x]), silu))
  const sinusoid = (value: number) => Float64Array.from(timestepEmbedding(value))
  return sum(
    sum(embed('time_in', sinusoid(timestep)), embed('guidance_in', sinusoid(guidance))),
    embed('vector_in', vec),
  )[0]!
}

/** What is added after the blocks: to the image, and to the first rows of text and image. */
export interface Residuals {
  afterDouble?: (i: number) => Rows
  /** `first`: the first row that it is added to */
  afterSingle?: (i: number) => { rows: Rows; first: number }
}

const addRows = (x: Rows, rows: Rows, first: number): Rows =>
  x.map((row, i) => (rows[i - first] ? row.map((value, j) => value + rows[i - first]![j]!) : row))

/** black-forest-labs/flux `Flux.forward` */
export function referenceFlux(t: Weights, depths: [number, number], input: ReferenceInput, more: Residuals = {}): Rows {
  const { ids } = input
  const vec = conditioning(t, input)
  let [img, txt] = [linear(t, 'img_in', input.img), linear(t, 'txt_in', input.txt)]
  for (let i = 0; i < depths[0]; i++) {
    ;[img, txt] = doubleBlock(t, i, img, txt, vec, ids)
    if (more.afterDouble) img = addRows(img, more.afterDouble(i), 0)
  }
  let x = [...txt, ...img]
  for (let i = 0; i < depths[1]; i++) {
    x = singleBlock(t, i, x, vec, ids)
    const added = more.afterSingle?.(i)
    if (added) x = addRows(x, added.rows, added.first)
  }
  const [final] = linear(t, 'final_layer.adaLN_modulation.1', [vec.map(silu)])
  const half: Modulation = [final!.slice(0, vec.length), final!.slice(vec.length), vec]
  return linear(t, 'final_layer.linear', modulate(x.slice(txt.length), half))
}

/** A convolution with padding that keeps the sides at stride 1; x [channels][height][width]. */
export function convolution(t: Weights, name: string, x: Float64Array[][], stride: number): Float64Array[][] {
  const { data: w, shape } = t.get(`${name}.weight`)!
  const bias = t.get(`${name}.bias`)!.data
  const [out, channels, kernel] = shape as [number, number, number]
  const [height, width, pad] = [x[0]!.length, x[0]![0]!.length, kernel >> 1]
  return Array.from({ length: out }, (_, o) =>
    Array.from({ length: height / stride }, (_, row) =>
      Float64Array.from({ length: width / stride }, (_, column) => {
        let all = bias[o]!
        for (let c = 0; c < channels; c++) {
          for (let dy = 0; dy < kernel; dy++) {
            const line = x[c]![row * stride + dy - pad]
            for (let dx = 0; line && dx < kernel; dx++)
              all += w[((o * channels + c) * kernel + dy) * kernel + dx]! * (line[column * stride + dx - pad] ?? 0)
          }
        }
        return all
      }),
    ),
  )
}

/** [channels][height][width] to [h/2 w/2][channels * 4] */
export function packed(x: Float64Array[][]): Rows {
  const [rows, columns] = [x[0]!.length / 2, x[0]![0]!.length / 2]
  return Array.from({ length: rows * columns }, (_, n) => {
    const [row, column] = [2 * Math.floor(n / columns), 2 * (n % columns)]
    return Float64Array.from({ length: 4 * x.length }, (_, i) => x[i >> 2]![row + ((i >> 1) & 1)]![column + (i & 1)]!)
  })
}
