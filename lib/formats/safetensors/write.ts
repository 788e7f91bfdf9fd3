import { FluxError } from '../../errors.js'
import type { MetadataValue } from '../model-file.js'
import { quoted } from '../tensor-table.js'
import { SAFETENSORS_TYPES, tensorBytes } from '../tensor-types.js'
import type { FileHeader, TensorSource } from '../file-header.js'

/** The reference reader requires 8. With 64, a memory-mapped tensor of whole cache lines stays aligned. */
const HEADER_MULTIPLE = 64

/** The length field and the JSON header of a safetensors file, padded with spaces. The data follows without gaps. */
export function safetensorsHeader(tensors: TensorSource[], metadata: Record<string, MetadataValue>): FileHeader {
  const entries: [string, unknown][] = []
  const texts = Object.entries(metadata).map(([key, value]) => [key, metadataText(key, value)])
  if (texts.length > 0) entries.push(['__metadata__', Object.fromEntries(texts)])
  let offset = 0
  for (const { name, type, shape } of tensors) {
    if (!SAFETENSORS_TYPES.has(type))
      throw new FluxError('FLUX_BAD_OPTION', `tensor ${quoted(name)}: safetensors has no type ${type}. Write .gguf`)
    if (name === '__metadata__')
      throw new FluxError('FLUX_BAD_OPTION', 'a tensor in a safetensors file cannot be called "__metadata__"')
    const end = offset + tensorBytes(type, shape)
    entries.push([name, { dtype: type, shape, data_offsets: [offset, end] }])
    offset = end
  }
  const json = Buffer.from(
    `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`,
  )
  const header = Buffer.alloc(Math.ceil((8 + json.length) / HEADER_MULTIPLE) * HEADER_MULTIPLE, ' ')
  header.writeBigUInt64LE(BigInt(header.length - 8))
  json.copy(header, 8)
  return { header, alignment: 1 }
}

function metadataText(key: string, value: MetadataValue): string {
  if (typeof value !== 'object') return String(value)
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `metadata ${quoted(key)} is an array; safetensors holds only strings. Leave it out, or write .gguf`,
  )
}
