import { randomUUID } from 'node:crypto'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { extname } from 'node:path'
import { FluxError } from '../errors.js'
import { ggufHeader } from './gguf-writer.js'
import type { MetadataValue } from './model-file.js'
import { safetensorsHeader } from './safetensors-writer.js'
import { quoted } from './tensor-table.js'
import { tensorBytes, type TensorType } from './types.js'

export interface TensorSource {
  name: string
  type: TensorType
  /** row-major, as torch prints it */
  shape: number[]
  /** all bytes of the tensor, at once or in pieces */
  data: Uint8Array | (() => Iterable<Uint8Array> | AsyncIterable<Uint8Array>)
}

/** What a format puts before the data, and the multiple at which every tensor begins (counted from the end of `header`). */
export interface FileHeader {
  header: Buffer
  alignment: number
}

const HEADERS: Record<string, (tensors: TensorSource[], metadata: Record<string, MetadataValue>) => FileHeader> = {
  '.gguf': ggufHeader,
  '.safetensors': safetensorsHeader,
}

/**
 * Writes a model file, GGUF (version 3) or safetensors by the suffix of `path`; tensors keep their order. The bytes go to a file beside
 * the final name, which takes that name only when all is written and flushed; after a failure nothing is left.
 *
 * Metadata in GGUF: whole numbers become UINT32, INT32 or 64-bit integers, other numbers FLOAT32, bigints 64-bit integers; typed arrays
 * keep their type. In safetensors: strings as they are, numbers and booleans as text, no arrays.
 *
 * @param onProgress bytes of tensor data written, and in all
 * @throws {FluxError} FLUX_BAD_OPTION for another suffix, a wrong shape, type, name or metadata value; FLUX_BAD_SHAPE when a tensor's data
 *   has another length than its shape says
 */
export async function writeModelFile(
  path: string,
  tensors: TensorSource[],
  metadata: Record<string, MetadataValue> = {},
  onProgress?: (done: number, total: number) => void,
): Promise<void> {
  const makeHeader = HEADERS[extname(path).toLowerCase()]
  if (!makeHeader) throw new FluxError('FLUX_BAD_OPTION', `${path}: the suffix has to be ${Object.keys(HEADERS).join(' or ')}`)
  checkTensors(tensors)
  const { header, alignment } = makeHeader(tensors, metadata)
  const total = tensors.reduce((sum, { type, shape }) => sum + tensorBytes(type, shape), 0)
  const partial = `${path}.${randomUUID()}.partial`
  try {
    const handle = await open(partial, 'wx')
    try {
      await writeAll(handle, header)
      let done = 0
      for (const tensor of tensors) {
        const length = tensorBytes(tensor.type, tensor.shape)
        for await (const piece of pieces(tensor, length)) {
          await writeAll(handle, piece)
          onProgress?.((done += piece.length), total)
        }
        const padding = -length & (alignment - 1)
        if (padding > 0) await writeAll(handle, Buffer.alloc(padding))
      }
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(partial, path)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}

function checkTensors(tensors: TensorSource[]): void {
  const names = new Set<string>()
  for (const { name, type, shape } of tensors) {
    if (names.has(name)) throw new FluxError('FLUX_BAD_OPTION', `tensor ${quoted(name)} is given twice`)
    names.add(name)
    if (shape.every((dimension) => Number.isSafeInteger(dimension) && dimension > 0) && tensorBytes(type, shape) > 0) continue
    throw new FluxError('FLUX_BAD_OPTION', `tensor ${quoted(name)}: shape [${shape.join(', ')}] does not go with type ${type}`)
  }
}

async function* pieces({ name, data }: TensorSource, length: number): AsyncGenerator<Uint8Array> {
  let given = 0
  for await (const piece of typeof data === 'function' ? data() : [data]) {
    given += piece.length
    if (given > length) break
    yield piece
  }
  if (given !== length) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `tensor ${quoted(name)}: its shape and type make ${length} bytes, ${given > length ? 'more' : `only ${given}`} were given`,
    )
  }
}

/** `FileHandle.write` may write less than it is given. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) written += (await handle.write(bytes, written)).bytesWritten
}
