import type { Cursor } from '../cursor.js'
import type { MetadataValue } from '../model-file.js'

/** A value type of GGUF metadata. `array` makes a typed array from the numbers in `buffer`. */
interface ValueType {
  name: string
  /** bytes of one value; for a string, the bytes of its length field */
  bytes: number
  scalar?: (cursor: Cursor) => MetadataValue
  array?: (buffer: ArrayBuffer) => MetadataValue
}

const integer = (value: bigint): number | bigint =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER) ? Number(value) : value

/** The index is the type number. */
export const VALUE_TYPES: readonly ValueType[] = [
  { name: 'UINT8', bytes: 1, scalar: (c) => c.u8(), array: (b) => new Uint8Array(b) },
  { name: 'INT8', bytes: 1, scalar: (c) => c.i8(), array: (b) => new Int8Array(b) },
  { name: 'UINT16', bytes: 2, scalar: (c) => c.u16(), array: (b) => new Uint16Array(b) },
  { name: 'INT16', bytes: 2, scalar: (c) => c.i16(), array: (b) => new Int16Array(b) },
  { name: 'UINT32', bytes: 4, scalar: (c) => c.u32(), array: (b) => new Uint32Array(b) },
  { name: 'INT32', bytes: 4, scalar: (c) => c.i32(), array: (b) => new Int32Array(b) },
  { name: 'FLOAT32', bytes: 4, scalar: (c) => c.f32(), array: (b) => new Float32Array(b) },
  { name: 'BOOL', bytes: 1, scalar: (c) => c.u8() !== 0, array: (b) => new Uint8Array(b) },
  { name: 'STRING', bytes: 8 },
  { name: 'ARRAY', bytes: 12 },
  { name: 'UINT64', bytes: 8, scalar: (c) => integer(c.u64()), array: (b) => new BigUint64Array(b) },
  { name: 'INT64', bytes: 8, scalar: (c) => integer(c.i64()), array: (b) => new BigInt64Array(b) },
  { name: 'FLOAT64', bytes: 8, scalar: (c) => c.f64(), array: (b) => new Float64Array(b) },
]

export const ARRAY = VALUE_TYPES.findIndex(({ name }) => name === 'ARRAY')

const MAX_STRING = 1024 * 1024
/** a vocabulary has 32 thousand to a few hundred thousand entries */
const MAX_STRINGS = 2 ** 20

export async function readString(cursor: Cursor, what: string): Promise<string> {
  if (!cursor.has(8)) await cursor.need(8, what)
  const length = cursor.u64()
  if (length > MAX_STRING)
    cursor.fail(`${what} is a string of ${length} bytes; at most ${MAX_STRING} are allowed. The file is damaged`)
  const bytes = Number(length)
  if (!cursor.has(bytes)) await cursor.need(bytes, what)
  return cursor.take(bytes).toString('utf8')
}

export async function readScalar(cursor: Cursor, type: ValueType, what: string): Promise<MetadataValue> {
  if (!type.scalar) return readString(cursor, what)
  await cursor.need(type.bytes, what)
  return type.scalar(cursor)
}

/** Arrays of arrays are rejected, as in ggml. */
export async function readArray(cursor: Cursor, what: string): Promise<MetadataValue> {
  await cursor.need(12, what)
  const id = cursor.u32()
  const type =
    VALUE_TYPES[id] ?? cursor.fail(`${what} is an array of the unknown value type ${id}. The file is damaged`)
  if (id === ARRAY) cursor.fail(`${what} is an array of arrays. Use another conversion of the model`)
  const length = cursor.u64()
  if (length > BigInt(Math.floor(cursor.remaining / type.bytes))) {
    cursor.fail(
      `${what} is an array of ${length} values of type ${type.name}, more than the remaining ${cursor.remaining} bytes can hold`,
    )
  }
  const count = Number(length)
  if (type.array) {
    await cursor.need(count * type.bytes, what)
    return type.array(new Uint8Array(cursor.take(count * type.bytes)).buffer)
  }
  if (count > MAX_STRINGS)
    cursor.fail(`${what} is an array of ${count} strings; at most ${MAX_STRINGS} are allowed. The file is damaged`)
  const values: MetadataValue[] = []
  for (let i = 0; i < count; i++) values.push(await readString(cursor, what))
  return values
}
