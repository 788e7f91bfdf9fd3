import type { LayoutTensor } from '../../lib/networks/layout.js'
import type { ModelFile } from '../../lib/formats/model-file.js'
import type { Source } from '../../lib/formats/byte-source.js'
import { tensorBytes, type TensorType } from '../../lib/formats/tensor-types.js'

/** A file that is only in memory. */
export function bytesSource(bytes: Uint8Array, path = 'memory'): Source {
  return {
    path,
    size: bytes.length,
    async read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > bytes.length)
        throw new Error(`read of ${length} bytes at ${offset} outside of ${bytes.length}`)
      return Buffer.from(bytes.subarray(offset, offset + length))
    },
  }
}

/** The header of a file with the given tensors, as the readers would give it. */
export function modelFileOf(
  tensors: { name: string; shape: number[] }[],
  {
    type = 'F32' as TensorType,
    rename = (name: string) => name,
    metadata = {} as Record<string, string | number>,
    path = 'model.gguf',
  } = {},
): ModelFile {
  let offset = 0
  const infos = tensors.map(({ name, shape }) => {
    const fits = !Number.isNaN(tensorBytes(type, shape)) && shape.length > 1
    const info = { name: rename(name), type: fits ? type : ('F32' as TensorType), shape, offset, byteLength: 0 }
    info.byteLength = tensorBytes(info.type, shape)
    offset += info.byteLength
    return info
  })
  return {
    path,
    format: 'gguf',
    size: offset,
    metadata: new Map(Object.entries(metadata)),
    tensors: new Map(infos.map((info) => [info.name, info])),
  }
}

export const parameters = (layout: Pick<LayoutTensor, 'shape'>[]): number =>
  layout.reduce((sum, { shape }) => sum + shape.reduce((product, dimension) => product * dimension, 1), 0)

/** A GGUF file field by field, for files that a proper writer would refuse to make. */
export class GgufBuilder {
  readonly parts: Buffer[] = []

  constructor(tensors: number | bigint, metadata: number | bigint, version = 3) {
    this.text('GGUF').u32(version).u64(tensors).u64(metadata)
  }

  text(value: string): this {
    return this.#add(Buffer.from(value))
  }

  u32(value: number): this {
    const part = Buffer.alloc(4)
    part.writeUInt32LE(value)
    return this.#add(part)
  }

  u64(value: number | bigint): this {
    const part = Buffer.alloc(8)
    part.writeBigUInt64LE(BigInt(value))
    return this.#add(part)
  }

  string(value: string): this {
    return this.u64(Buffer.byteLength(value)).text(value)
  }

  /** @param dimensions in ggml's order; @param type ggml's number */
  tensor(name: string, dimensions: (number | bigint)[], type: number, offset: number | bigint): this {
    this.string(name).u32(dimensions.length)
    for (const dimension of dimensions) this.u64(dimension)
    return this.u32(type).u64(offset)
  }

  /** the file, with `data` bytes behind the header padded to 32 */
  source(data = 0): Source {
    const header = Buffer.concat(this.parts)
    return bytesSource(Buffer.concat([header, Buffer.alloc((-header.length & 31) + data)]), 'built.gguf')
  }

  #add(part: Buffer): this {
    this.parts.push(part)
    return this
  }
}

/** A safetensors file of any header text. */
export function safetensorsSource(header: string | Record<string, unknown>, data = 0): Source {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return bytesSource(Buffer.concat([length, json, Buffer.alloc(data)]), 'built.safetensors')
}
