import { dirname, join } from 'node:path'
import { FluxError } from '../errors.js'
import type { ModelFile, TensorInfo } from './model-file.js'
import { withSource } from './byte-source.js'

const PART = /-(\d{5})-of-(\d{5})(\.safetensors|\.gguf)$/i
const INDEX = /\.safetensors\.index\.json$/i
/** FLUX.1's transformer has three; no real model has this many */
const MAX_PARTS = 256
const MAX_INDEX = 16 * 1024 * 1024

/** Whether a file is a part of a split model, but not the first part. */
export function isLaterPart(path: string): boolean {
  const [, number] = PART.exec(path) ?? []
  return number !== undefined && Number(number) !== 1
}

/**
 * Lists the files of a split model, from the name of one part or from the index. Returns undefined if the model is not
 * split.
 *
 * @throws {FluxError} FLUX_BAD_FILE for an invalid index or numbering
 */
export async function partsOf(path: string): Promise<string[] | undefined> {
  if (INDEX.test(path)) return indexed(path)
  const [suffix, , digits, extension] = PART.exec(path) ?? []
  if (suffix === undefined) return undefined
  const count = Number(digits)
  if (count < 1 || count > MAX_PARTS)
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${path}: its name says that it has ${count} parts; 1 to ${MAX_PARTS} are read`,
    )
  const stem = path.slice(0, -suffix.length)
  return Array.from({ length: count }, (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${digits}${extension}`)
}

/** `{ "weight_map": { "tensor's name": "file next to the index" } }` */
async function indexed(path: string): Promise<string[]> {
  const fail = (message: string): never => {
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${path}: ${message}. Download the index again, or give one of the model's files`,
    )
  }
  const names = new Set<unknown>(Object.values(weightMap(await readIndex(path), fail)))
  if (names.size === 0 || names.size > MAX_PARTS)
    fail(`the index names ${names.size} files; 1 to ${MAX_PARTS} are read`)
  return [...names].map((name) => {
    // the parts must be in the same folder as the index
    if (typeof name !== 'string' || !/^[^/\\:]+\.safetensors$/i.test(name))
      return fail('the index names something that is no .safetensors file next to it')
    return join(dirname(path), name)
  })
}

function readIndex(path: string): Promise<string> {
  return withSource(path, async ({ size, read }) => {
    if (size > MAX_INDEX)
      throw new FluxError('FLUX_BAD_FILE', `${path}: the index has ${size} bytes; at most ${MAX_INDEX} are read`)
    return (await read(0, size)).toString('utf8')
  })
}

function weightMap(text: string, fail: (message: string) => never): object {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: unknown }
    if (typeof map === 'object' && map !== null && !Array.isArray(map)) return map
  } catch (error) {
    fail(`this is no JSON: ${(error as Error).message}`)
  }
  return fail('the index has no "weight_map"')
}

/**
 * Joins the parts of a model. The metadata is that of the first part.
 *
 * @throws {FluxError} FLUX_BAD_FILE if parts share a tensor's name
 */
export function joinParts(path: string, parts: ModelFile[]): ModelFile {
  const [first] = parts as [ModelFile, ...ModelFile[]]
  const tensors = new Map<string, TensorInfo>()
  for (const [file, part] of parts.entries()) {
    for (const [name, tensor] of part.tensors) {
      if (tensors.has(name))
        throw new FluxError('FLUX_BAD_FILE', `${path}: tensor ${name} is in two of its parts. Download them again`)
      tensors.set(name, { ...tensor, file })
    }
  }
  const size = parts.reduce((sum, part) => sum + part.size, 0)
  return {
    path,
    parts: parts.map((part) => part.path),
    format: first.format,
    size,
    read: parts.flatMap(({ read = [] }) => read),
    metadata: first.metadata,
    tensors,
  }
}
