import { FluxError } from '../../errors.js'
import { ARRAY, VALUE_TYPES } from './values.js'
import type { MetadataValue } from '../model-file.js'
import { quoted } from '../tensor-table.js'
import { TENSOR_TYPES, tensorBytes } from '../tensor-types.js'
import type { FileHeader, TensorSource } from '../file-header.js'

const VERSION = 3
const DEFAULT_ALIGNMENT = 32

const typeId = (name: string): number => VALUE_TYPES.findIndex((type) => type.name === name)

/** GGUF's element types by the name of the typed array's constructor. */
const ARRAY_TYPES: Record<string, string> = {
  Uint8Array: 'UINT8',
  Buffer: 'UINT8',
  Int8Array: 'INT8',
  Uint16Array: 'UINT16',
  Int16Array: 'INT16',
  Uint32Array: 'UINT32',
  Int32Array: 'INT32',
  Float32Array: 'FLOAT32',
  BigUint64Array: 'UINT64',
  BigInt64Array: 'INT64',
  Float64Array: 'FLOAT64',
}

const SCALARS: Record<string, (value: never) => Buffer> = {
  UINT32: (value: number) => u32(value),
  INT32: (value: number) => fixed(4, (b) => b.writeInt32LE(value)),
  FLOAT32: (value: number) => fixed(4, (b) => b.writeFloatLE(value)),
  BOOL: (value: boolean) => Buffer.from([Number(value)]),
  STRING: (value: string) => string(value),
  UINT64: (value: number | bigint) => u64(value),
  INT64: (value: number | bigint) => fixed(8, (b) => b.writeBigInt64LE(BigInt(value))),
}

/** The header of a GGUF file (version 3), padded to the alignment: `general.alignment` or 32 bytes. */
export function ggufHeader(tensors: TensorSource[], metadata: Record<string, MetadataValue>): FileHeader {
  const alignment = metadata['general.alignment'] ?? DEFAULT_ALIGNMENT
  if (typeof alignment !== 'number' || alignment < 8 || alignment > 65536 || !Number.isInteger(Math.log2(alignment))) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `general.alignment is ${quoted(String(alignment))}; it has to be a power of two from 8 to 65536`,
    )
  }
  const entries = Object.entries(metadata)
  const parts = [Buffer.from('GGUF'), u32(VERSION), u64(tensors.length), u64(entries.length)]
  for (const [key, value] of entries) parts.push(string(key), typedValue(key, value))
  let offset = 0
  for (const { name, type, shape } of tensors) {
    const { id } = TENSOR_TYPES[type]
    if (id < 0)
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `tensor ${quoted(name)}: GGUF has no type ${type}. Convert it, or write .safetensors`,
      )
    if (shape.length > 4)
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `tensor ${quoted(name)}: GGUF has at most 4 dimensions, not ${shape.length}`,
      )
    parts.push(string(name), u32(shape.length), ...shape.toReversed().map(u64), u32(id), u64(offset))
    offset += Math.ceil(tensorBytes(type, shape) / alignment) * alignment
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return { header: Buffer.concat(parts, Math.ceil(length / alignment) * alignment), alignment }
}

function typedValue(key: string, value: MetadataValue): Buffer {
  if (typeof value === 'object') return Buffer.concat([u32(ARRAY), arrayValue(key, value)])
  const type = scalarType(value)
  return Buffer.concat([u32(typeId(type)), SCALARS[type]!(value as never)])
}

/** element type, length, elements */
function arrayValue(key: string, value: Exclude<MetadataValue, string | number | bigint | boolean>): Buffer {
  if (!Array.isArray(value)) {
    const type = typeId(ARRAY_TYPES[value.constructor.name] ?? '')
    if (type < 0)
      throw new FluxError('FLUX_BAD_OPTION', `metadata ${quoted(key)}: GGUF cannot hold a ${value.constructor.name}`)
    return Buffer.concat([u32(type), u64(value.length), Buffer.from(value.buffer, value.byteOffset, value.byteLength)])
  }
  const scalars = value.filter((element) => typeof element !== 'object')
  const types = new Set(
    scalars.every((element) => typeof element === 'number') ? [numbersType(scalars)] : scalars.map(scalarType),
  )
  const [type] = types
  if (type === undefined || types.size > 1 || scalars.length < value.length) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `metadata ${quoted(key)}: all elements of an array have to be strings, numbers, bigints of one sign, or booleans`,
    )
  }
  return Buffer.concat([
    u32(typeId(type)),
    u64(value.length),
    Buffer.concat(scalars.map((element) => SCALARS[type]!(element as never))),
  ])
}

/** a type that can hold all of the values */
function numbersType(values: number[]): string {
  if (!values.every(Number.isSafeInteger)) return 'FLOAT32'
  const smallest = values.reduce((a, b) => Math.min(a, b), 0)
  const largest = values.reduce((a, b) => Math.max(a, b), 0)
  if (smallest === 0) return scalarType(largest)
  return smallest >= -(2 ** 31) && largest < 2 ** 31 ? 'INT32' : 'INT64'
}

function scalarType(value: string | number | bigint | boolean): string {
  if (typeof value === 'string') return 'STRING'
  if (typeof value === 'boolean') return 'BOOL'
  if (typeof value === 'bigint') return value < 0n ? 'INT64' : 'UINT64'
  if (!Number.isSafeInteger(value)) return 'FLOAT32'
  if (value >= 0) return value < 2 ** 32 ? 'UINT32' : 'UINT64'
  return value >= -(2 ** 31) ? 'INT32' : 'INT64'
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
}

function fixed(bytes: number, write: (buffer: Buffer) => void): Buffer {
  const buffer = Buffer.alloc(bytes)
  write(buffer)
  return buffer
}

const u32 = (value: number): Buffer => fixed(4, (b) => b.writeUInt32LE(value))
const u64 = (value: number | bigint): Buffer => fixed(8, (b) => b.writeBigUInt64LE(BigInt(value)))
