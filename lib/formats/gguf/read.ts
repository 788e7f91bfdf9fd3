import { FluxError } from '../../errors.js'
import { Cursor } from '../cursor.js'
import { readArray, readScalar, readString, VALUE_TYPES, ARRAY } from './values.js'
import type { MetadataValue, ModelFile, TensorInfo } from '../model-file.js'
import { versionOf, withSource, type Source } from '../byte-source.js'
import { checkPlaces, MAX_NAME, MAX_TENSORS, quoted } from '../tensor-table.js'
import { TENSOR_TYPES, tensorBytes, type TensorType } from '../tensor-types.js'

/** The header of a language model with a large vocabulary takes about 10 MiB. */
const MAX_HEADER = 64 * 1024 * 1024
const MAX_DIMENSIONS = 4
const DEFAULT_ALIGNMENT = 32
const MAX_ALIGNMENT = 65536

const TYPE_BY_ID = new Map<number, TensorType>(
  Object.entries(TENSOR_TYPES).map(([name, { id }]) => [id, name as TensorType]),
)
TYPE_BY_ID.delete(-1)

/**
 * Reads and checks a GGUF header, versions 2 and 3, little-endian. It does not read tensor data. A tensor without
 * dimensions is a scalar.
 * The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @throws {FluxError} FLUX_BAD_FILE, naming the field; FLUX_UNSUPPORTED for another version or an unknown tensor type
 */
export function readGguf(input: string | Source): Promise<ModelFile> {
  return withSource(input, async (source) => {
    const cursor = new Cursor(source, MAX_HEADER)
    await readVersion(cursor)
    await cursor.need(16, 'the counts of tensors and metadata')
    const tensorCount = readCount(cursor, 'the number of tensors', 24)
    const metadataCount = readCount(cursor, 'the number of metadata entries', 13)
    if (tensorCount > MAX_TENSORS)
      cursor.fail(`the number of tensors is ${tensorCount}; at most ${MAX_TENSORS} are allowed`)
    const metadata = await readMetadata(cursor, metadataCount)
    const alignment = readAlignment(cursor, metadata)
    const tensors = await readTensors(cursor, tensorCount, alignment)
    const dataOffset = Math.ceil(cursor.offset / alignment) * alignment
    for (const tensor of tensors.values()) tensor.offset += dataOffset
    checkPlaces(source.path, source.size, tensors.values())
    return { path: source.path, format: 'gguf', size: source.size, read: versionOf(source), metadata, tensors }
  })
}

async function readVersion(cursor: Cursor): Promise<void> {
  await cursor.need(8, 'the magic and the version')
  const magic = cursor.take(4).toString('latin1')
  if (magic !== 'GGUF') cursor.fail(`the file begins with ${quoted(magic)} instead of "GGUF". Give a GGUF file`)
  const version = cursor.u32()
  if (version === 2 || version === 3) return
  const unsupported = (why: string) => new FluxError('FLUX_UNSUPPORTED', `${cursor.source.path}: ${why}`)
  if (version > 0 && (version & 0xffff) === 0)
    throw unsupported('this GGUF file is big-endian. Use a little-endian version of the file')
  throw unsupported(`GGUF version ${version}; versions 2 and 3 are read. Use a newer conversion of the model`)
}

/** @param minimum the least bytes that an entry takes, so that a count cannot exceed what the file can hold */
function readCount(cursor: Cursor, what: string, minimum: number): number {
  const count = cursor.u64()
  if (count > BigInt(Math.floor(cursor.remaining / minimum))) {
    cursor.fail(
      `${what} is ${count}, more than ${cursor.remaining} bytes of header can hold. The file is damaged: download it again`,
    )
  }
  return Number(count)
}

async function readMetadata(cursor: Cursor, count: number): Promise<Map<string, MetadataValue>> {
  const metadata = new Map<string, MetadataValue>()
  for (let i = 0; i < count; i++) {
    const key = await readString(cursor, `the key of metadata entry ${i}`)
    const what = `metadata ${quoted(key)}`
    if (key === '') cursor.fail(`metadata entry ${i} has an empty key. The file is damaged: download it again`)
    if (metadata.has(key)) cursor.fail(`${what} is there twice. Use another conversion of the model`)
    await cursor.need(4, what)
    const id = cursor.u32()
    if (id === ARRAY) metadata.set(key, await readArray(cursor, what))
    else
      metadata.set(
        key,
        await readScalar(cursor, VALUE_TYPES[id] ?? cursor.fail(`${what} has the unknown value type ${id}`), what),
      )
  }
  return metadata
}

function readAlignment(cursor: Cursor, metadata: Map<string, MetadataValue>): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT
  const powerOfTwo =
    typeof alignment === 'number' &&
    Number.isInteger(Math.log2(alignment)) &&
    alignment >= 1 &&
    alignment <= MAX_ALIGNMENT
  if (powerOfTwo) return alignment
  return cursor.fail(
    `general.alignment is ${quoted(String(alignment))}; it has to be a power of two up to ${MAX_ALIGNMENT}`,
  )
}

async function readTensors(cursor: Cursor, count: number, alignment: number): Promise<Map<string, TensorInfo>> {
  const tensors = new Map<string, TensorInfo>()
  for (let i = 0; i < count; i++) {
    const name = await readString(cursor, `the name of tensor ${i}`)
    if (name === '' || name.length > MAX_NAME)
      cursor.fail(`the name of tensor ${i} has ${name.length} characters; 1 to ${MAX_NAME} are allowed`)
    if (tensors.has(name)) cursor.fail(`tensor ${quoted(name)} is there twice. Use another conversion of the model`)
    tensors.set(name, await readTensor(cursor, name, alignment))
  }
  return tensors
}

/** `offset` in the result counts from the beginning of the tensor data. */
async function readTensor(cursor: Cursor, name: string, alignment: number): Promise<TensorInfo> {
  const what = `tensor ${quoted(name)}`
  await cursor.need(4, what)
  const rank = cursor.u32()
  if (rank > MAX_DIMENSIONS) cursor.fail(`${what} has ${rank} dimensions; at most ${MAX_DIMENSIONS} are allowed`)
  await cursor.need(8 * rank + 12, what)
  const shape: number[] = []
  for (let i = 0; i < rank; i++) {
    const dimension = cursor.u64()
    if (dimension < 1n || dimension > BigInt(Number.MAX_SAFE_INTEGER))
      cursor.fail(`dimension ${i} of ${what} is ${dimension}`)
    shape.unshift(Number(dimension))
  }
  const id = cursor.u32()
  const type = TYPE_BY_ID.get(id)
  if (!type) {
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${cursor.source.path}: ${what} has the tensor type number ${id}, which ggml 0.25.1 does not have. Use another quantisation`,
    )
  }
  const byteLength = tensorBytes(type, shape)
  if (Number.isNaN(byteLength)) {
    cursor.fail(
      `${what}: shape [${shape.join(', ')}] does not go with type ${type} (blocks of ${TENSOR_TYPES[type].blockSize}), or is too large`,
    )
  }
  const offset = cursor.u64()
  if (offset > BigInt(cursor.source.size)) {
    cursor.fail(
      `${what} begins at byte ${offset} of the data, but the file has ${cursor.source.size} bytes. Fetch the rest of it`,
    )
  }
  if (offset % BigInt(alignment) !== 0n)
    cursor.fail(`${what} begins at byte ${offset} of the data, which is no multiple of the alignment ${alignment}`)
  return { name, type, shape, offset: Number(offset), byteLength }
}
