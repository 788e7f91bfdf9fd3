import { setImmediate as nextTurn } from 'node:timers/promises'
import { FluxError } from '../../errors.js'
import { objectEntries } from './json-entries.js'
import type { MetadataValue, ModelFile, TensorInfo } from '../model-file.js'
import { versionOf, withSource, type Source } from '../byte-source.js'
import { checkPlaces, MAX_NAME, MAX_TENSORS, quoted } from '../tensor-table.js'
import { elementCount, SAFETENSORS_TYPES, TENSOR_TYPES, type TensorType } from '../tensor-types.js'

/** the limit of the reference implementation */
const MAX_HEADER = 100_000_000
const MAX_DIMENSIONS = 8
const ENTRIES_PER_TURN = 128

/**
 * Reads and checks a safetensors header. It does not read tensor data. Gaps between tensors are allowed, overlaps are
 * not.
 * The format: https://github.com/huggingface/safetensors#format
 *
 * @throws {FluxError} FLUX_BAD_FILE, naming the tensor or field; FLUX_UNSUPPORTED for an unknown dtype
 */
export function readSafetensors(input: string | Source): Promise<ModelFile> {
  return withSource(input, async (source) => {
    const header = await readHeader(source)
    const dataOffset = 8 + header.length
    const file: ModelFile = {
      path: source.path,
      format: 'safetensors',
      size: source.size,
      read: versionOf(source),
      metadata: new Map(),
      tensors: new Map(),
    }
    const fail = (message: string): never => {
      throw new FluxError('FLUX_BAD_FILE', `${source.path}: ${message}`)
    }
    let entries = 0
    let hasMetadata = false
    for (const { key, begin, end } of objectEntries(header, 0, header.length, fail)) {
      if (++entries % ENTRIES_PER_TURN === 0) await nextTurn()
      const value = await readObject(header, begin, end, quoted(key), fail)
      if (key === '__metadata__') {
        if (hasMetadata) fail('"__metadata__" is there twice')
        hasMetadata = true
        file.metadata = checkMetadata(value, fail)
        continue
      }
      if (file.tensors.size === MAX_TENSORS)
        fail(`the header has more than ${MAX_TENSORS} tensors, as many as are allowed`)
      if (key === '' || key.length > MAX_NAME)
        fail(`the name of a tensor has ${key.length} characters; 1 to ${MAX_NAME} are allowed`)
      if (file.tensors.has(key)) fail(`tensor ${quoted(key)} is there twice. Use another conversion of the model`)
      file.tensors.set(key, checkTensor(key, value, dataOffset, source))
    }
    checkPlaces(source.path, source.size, file.tensors.values())
    return file
  })
}

type Fail = (message: string) => never

async function readHeader(source: Source): Promise<Buffer> {
  const { path, size } = source
  if (size < 10)
    throw new FluxError('FLUX_BAD_FILE', `${path}: ${size} bytes are too few for a safetensors file. Download it again`)
  const length = (await source.read(0, 8)).readBigUInt64LE()
  if (length > MAX_HEADER) {
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${path}: the header's length field says ${length} bytes; at most ${MAX_HEADER} are allowed. The file is damaged`,
    )
  }
  if (length > size - 8) {
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${path}: the header should have ${length} bytes, the whole file has ${size}. The download is incomplete: fetch the rest`,
    )
  }
  return source.read(8, Number(length))
}

async function readObject(
  header: Buffer,
  begin: number,
  end: number,
  what: string,
  fail: Fail,
): Promise<Map<string, unknown>> {
  const object = new Map<string, unknown>()
  for (const { key, begin: from, end: to } of objectEntries(header, begin, end, fail)) {
    if (object.size % ENTRIES_PER_TURN === ENTRIES_PER_TURN - 1) await nextTurn()
    if (object.has(key)) fail(`${quoted(key)} is there twice in ${what}. Use another conversion of the model`)
    try {
      object.set(key, JSON.parse(header.toString('utf8', from, to)))
    } catch (error) {
      fail(`the header's JSON is broken in ${what}, ${quoted(key)}, at byte ${8 + from}: ${(error as Error).message}`)
    }
  }
  return object
}

function checkMetadata(metadata: Map<string, unknown>, fail: Fail): Map<string, MetadataValue> {
  for (const [key, value] of metadata)
    if (typeof value !== 'string') fail(`metadata ${quoted(key)} is no string. Use another conversion of the model`)
  return metadata as Map<string, string>
}

function checkTensor(name: string, entry: Map<string, unknown>, dataOffset: number, source: Source): TensorInfo {
  const what = `${source.path}: tensor ${quoted(name)}`
  const fail: Fail = (message) => {
    throw new FluxError('FLUX_BAD_FILE', `${what} ${message}. The file is damaged, or its writer is at fault`)
  }
  const dtype = entry.get('dtype')
  const shape = entry.get('shape')
  const offsets = entry.get('data_offsets')
  if (typeof dtype !== 'string') return fail('has no dtype, or one that is no string')
  if (!isIntegers(shape)) return fail('has no shape, or one that is no list of whole numbers')
  if (shape.length > MAX_DIMENSIONS)
    return fail(`has ${shape.length} dimensions; at most ${MAX_DIMENSIONS} are allowed`)
  if (!isIntegers(offsets) || offsets.length !== 2)
    return fail('has no data_offsets, or some that are no pair of whole numbers')
  if (!SAFETENSORS_TYPES.has(dtype)) {
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${what} has the unknown dtype ${quoted(dtype)}. Use another conversion of the model`,
    )
  }
  const type = dtype as TensorType
  const { blockSize, blockBytes } = TENSOR_TYPES[type]
  // sub-byte types are packed over the whole tensor, so the row does not have to be a whole number of blocks
  const byteLength = (elementCount(shape) / blockSize) * blockBytes
  const [begin, end] = offsets as [number, number]
  if (!Number.isSafeInteger(byteLength))
    return fail(`has a shape that is too large or makes no whole bytes: [${shape.join(', ')}], dtype ${type}`)
  if (end - begin !== byteLength) {
    return fail(
      `has shape [${shape.join(', ')}] and dtype ${type}, which make ${byteLength} bytes, but data_offsets ${begin} to ${end}`,
    )
  }
  if (!Number.isSafeInteger(dataOffset + end)) return fail(`has data_offsets beyond all sizes: ${begin} to ${end}`)
  return { name, type, shape, offset: dataOffset + begin, byteLength }
}

function isIntegers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((element) => Number.isSafeInteger(element) && element >= 0)
}
