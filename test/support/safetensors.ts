import { readFileSync } from 'node:fs'

export interface Tensor {
  shape: number[]
  data: Float32Array | Int32Array | Uint8Array
}

interface HeaderEntry {
  dtype: string
  shape: number[]
  data_offsets: [number, number]
}

const ARRAYS = { F32: Float32Array, I32: Int32Array, U8: Uint8Array }

/** Tensors of a small safetensors file by name, copied out of it. Independent of the library's own reader, which it serves to test. */
export function readTensors(file: string): Map<string, Tensor> {
  const bytes = readFileSync(file)
  const begin = 8 + Number(bytes.readBigUInt64LE(0))
  const header: Record<string, HeaderEntry> = JSON.parse(bytes.toString('utf8', 8, begin))
  delete header.__metadata__
  return new Map(
    Object.entries(header).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => {
        if (!(dtype in ARRAYS))
          throw new Error(`${file}: tensor ${name} has the type ${dtype}, which tests do not read`)
        const data = new Uint8Array(bytes.subarray(begin + from, begin + to))
        return [name, { shape, data: new ARRAYS[dtype as keyof typeof ARRAYS](data.buffer) }]
      },
    ),
  )
}

/** |a - b| / |b| over all elements; infinite where the lengths differ. */
export function relL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity
  let difference = 0
  let norm = 0
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2
    norm += b[i]! ** 2
  }
  return Math.sqrt(difference / norm)
}
