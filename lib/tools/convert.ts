import { availableParallelism } from 'node:os'
import { basename, extname, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import { FILE_TYPES, ggufMetadata, type FileType } from './synth/gguf-metadata.js'
import type { NetworkDefinition } from '../networks/definition.js'
import type { LayoutTensor } from '../networks/layout.js'
import { locateTokenizer } from '../model/locate.js'
import { openLora } from '../networks/lora/lora-file.js'
import { checkLoras, loraTables, nothingBelongs, type LoraOptions } from '../networks/lora/assignment.js'
import { openModelFile } from '../formats/open.js'
import type { MetadataValue } from '../formats/model-file.js'
import { networkDefinition, networkDefinitions } from '../networks/registry.js'
import { networkOf, networksIn, type NetworkFile } from '../networks/network-file.js'
import { requiredKinds, type RequiredComponent } from '../model/model-files.js'
import { storedType } from './quantisation-rules.js'
import { TENSOR_TYPES, tensorBytes, type TensorType } from '../formats/tensor-types.js'
import { writeModelFile } from '../formats/write-model-file.js'
import type { TensorSource } from '../formats/file-header.js'
import { fluxError, nativeAddon, type NativeMerged, type NativeTensor } from '../native/addon.js'
import { badOption, requireOneOf, requireOptions, requireSignal } from '../options/checks.js'

export interface ConvertOptions {
  /**
   * the type of the matrices; tensors that converters keep in higher precision are kept here as well (docs/models.md).
   * F32, F16, BF16, Q8_0 … Q2_K, IQ4_NL, IQ4_XS
   */
  type: FileType
  /**
   * Types of individual matrices and embeddings. The first pattern that is found in the canonical name applies, before
   * all rules. Biases, norms and convolutions keep their own types.
   */
  tensorTypes?: readonly (readonly [pattern: string | RegExp, type: FileType])[]
  /** the network to convert from a checkpoint with several. @default the transformer */
  network?: RequiredComponent
  /** LoRAs to merge into a transformer's weights before the weights are rounded to their type */
  loras?: readonly LoraOptions[]
  /** T5's tokenizer for a GGUF file. @default the one inside the input, or next to it, or none */
  tokenizer?: string
  signal?: AbortSignal
  /** bytes of the new file written, and the total */
  onProgress?: (done: number, total: number) => void
}

export interface ConvertResult {
  path: string
  /** the new file's size in bytes */
  size: number
  /** the number of tensors of each type */
  types: Partial<Record<TensorType, number>>
  /** whether T5's tokenizer is inside */
  tokenizer: boolean
  /** the unmatched names in each of the LoRAs, which are not merged */
  unmatched: string[][]
}

/** The number of elements that are converted at a time, about 64 MB per thread. */
const CHUNK = 8 * 2 ** 20
/** The metadata of a GGUF file that stays true if its types change. */
const KEPT_METADATA = /^(ggflux\.|general\.(name|author|license|license\.link|source\.|base_model\.|url|description))/

/**
 * Writes a network with official names (T5 in a GGUF file: llama.cpp's names) and other types, from any supported
 * layout. Memory stays below 2 GiB for any size. The file appears under its name only when it is complete.
 *
 * @param output `.gguf`, or `.safetensors` (F32, F16 and BF16 only)
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED for the input; FLUX_NOT_FOUND and FLUX_BAD_FILE
 *   if the output cannot be written; FLUX_BAD_OPTION; the signal's reason when aborted
 */
export async function convert(input: string, output: string, options: ConvertOptions): Promise<ConvertResult> {
  check(input, output, options)
  const { type, signal, onProgress } = options
  signal?.throwIfAborted()
  const file = await openModelFile(input)
  const kind = options.network ? requiredKinds()[options.network] : networksIn(file)[0]
  // if a file contains no network, the error says what it is
  const network = networkOf(kind ?? networkDefinitions()[0]!.kind, file)
  const definition = networkDefinition(network.kind)
  const gguf = extname(output).toLowerCase() === '.gguf'
  const own = new Map(network.tensors.map((tensor) => [tensor.name, tensor]))
  const parts = file.parts ?? [file.path]
  const { mergedInto, unmatched } = await openLoras(options.loras ?? [], network)
  const types: ConvertResult['types'] = {}
  const layout = definition.layout(network.config)
  checkPatterns(options.tensorTypes ?? [], layout)
  const tensors = layout.map((tensor): TensorSource => {
    const stored = typeOf(definition, tensor, options, gguf)
    types[stored] = (types[stored] ?? 0) + 1
    const name = gguf && definition.gguf.rename ? definition.gguf.rename(tensor.name) : tensor.name
    const merged = mergedInto(tensor.name)
    return {
      name,
      shape: tensor.shape,
      type: stored,
      data: () => chunks(parts, own.get(tensor.name)!, stored, merged, signal),
    }
  })
  const tokenizer = gguf ? await findTokenizer(definition, input, file.metadata, options.tokenizer) : undefined
  const kept =
    file.format === 'gguf' ? Object.fromEntries([...file.metadata].filter(([key]) => KEPT_METADATA.test(key))) : {}
  const name = basename(input).replace(/\.[^.]*$/, '')
  const metadata: Record<string, MetadataValue> = gguf
    ? { ...ggufMetadata(definition, network.config, name, type), ...tokenizer, ...kept }
    : { format: 'pt' }
  const size = await writeModelFile(output, tensors, metadata, onProgress)
  return { path: output, size, types, tokenizer: tokenizer !== undefined, unmatched }
}

function check(input: string, output: string, options: ConvertOptions): void {
  requireOptions('the options of convert', options, [
    'type',
    'tensorTypes',
    'network',
    'loras',
    'tokenizer',
    'signal',
    'onProgress',
  ])
  const { type, tensorTypes = [], network, loras = [], signal } = options
  checkLoras(loras)
  if (typeof input !== 'string' || input === '') throw badOption('the input', input, 'the path of a model file')
  if (typeof output !== 'string' || !/\.(gguf|safetensors)$/i.test(output))
    throw badOption('the output', output, 'a path that ends with .gguf or .safetensors')
  if (resolve(input) === resolve(output))
    throw new FluxError('FLUX_BAD_OPTION', `${output} is the input as well: give another name`)
  for (const [pattern] of tensorTypes) {
    if (!(pattern instanceof RegExp) && (typeof pattern !== 'string' || pattern === ''))
      throw badOption('a pattern of tensorTypes', pattern, 'a part of a name or a regular expression')
  }
  for (const wanted of [type, ...tensorTypes.map(([, type]) => type)]) {
    requireOneOf('type', wanted, Object.keys(FILE_TYPES))
    if (/\.safetensors$/i.test(output) && TENSOR_TYPES[wanted].blockSize > 1) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `${output}: safetensors cannot hold ${wanted}; give a .gguf path, or type F32, F16 or BF16`,
      )
    }
  }
  if (network !== undefined) requireOneOf('network', network, Object.keys(requiredKinds()))
  requireSignal(signal)
}

/** Whether a pattern determines a tensor's type. Blocks are parts of rows, which only matrices and embeddings have. */
function decides(pattern: string | RegExp, { name, role }: LayoutTensor): boolean {
  if (role !== 'matrix' && role !== 'embedding') return false
  // `search` does not remember the last match, unlike `test` of a global pattern
  return typeof pattern === 'string' ? name.includes(pattern) : name.search(pattern) >= 0
}

function checkPatterns(tensorTypes: NonNullable<ConvertOptions['tensorTypes']>, layout: LayoutTensor[]): void {
  const idle = tensorTypes.find(([pattern]) => !layout.some((tensor) => decides(pattern, tensor)))
  if (idle)
    throw badOption(
      'a pattern of tensorTypes',
      idle[0],
      'one that is found in the canonical name of a matrix or an embedding, such as img_mlp',
    )
}

function typeOf(
  definition: NetworkDefinition,
  tensor: LayoutTensor,
  { type, tensorTypes = [] }: ConvertOptions,
  gguf: boolean,
): TensorType {
  const own = tensorTypes.find(([pattern]) => decides(pattern, tensor))?.[1]
  if (own === undefined) return gguf ? storedType(definition, tensor, type) : type
  if (!Number.isNaN(tensorBytes(own, tensor.shape))) return own
  const { blockSize } = TENSOR_TYPES[own]
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `tensorTypes: ${tensor.name} has shape [${tensor.shape.join(', ')}], whose rows are not whole blocks of ${blockSize} for ${own}`,
  )
}

/** The additions of LoRAs to each tensor of a transformer. */
async function openLoras(
  loras: readonly LoraOptions[],
  network: NetworkFile<object>,
): Promise<{ mergedInto(name: string): Omit<NativeMerged, 'first'> | undefined; unmatched: string[][] }> {
  if (loras.length === 0) return { mergedInto: () => undefined, unmatched: [] }
  const { role, label } = networkDefinition(network.kind)
  if (role !== 'transformer')
    throw new FluxError('FLUX_UNSUPPORTED', 'LoRAs can be merged into a transformer only: leave them out')
  const opened = await Promise.all(
    loras.map(async ({ path, scale = 1 }) => ({ lora: await openLora(path, network), scale })),
  )
  for (const { lora } of opened) {
    if (lora.layers.length === 0) throw nothingBelongs(lora, label)
    if (lora.channels !== undefined)
      throw new FluxError(
        'FLUX_UNSUPPORTED',
        `${lora.path} widens the model's input to ${lora.channels} channels, which cannot be merged`,
      )
  }
  const [files, tensors, adapters] = loraTables(opened)
  const mergedInto = (name: string) => {
    const own = adapters.filter(({ weight }) => weight === name)
    return own.length > 0 ? { files, tensors, adapters: own } : undefined
  }
  return { mergedInto, unmatched: opened.map(({ lora }) => lora.unmatched) }
}

/** Converts a tensor to bytes of another type, some rows at a time, with as many threads as there are processors. */
async function* chunks(
  files: string[],
  tensor: NativeTensor,
  type: TensorType,
  merged: Omit<NativeMerged, 'first'> | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const addon = nativeAddon()
  const converted = async (rows: NativeTensor, first: number): Promise<Uint8Array> => {
    try {
      return await addon.convert(files, rows, TENSOR_TYPES[type].id, merged && { ...merged, first })
    } catch (error) {
      const known = fluxError(error)
      throw known instanceof FluxError
        ? new FluxError(known.code, `${files[0]}: ${known.message}`, { cause: error })
        : error
    }
  }
  const waiting: Promise<Uint8Array>[] = []
  try {
    for (const { rows, first } of inChunks(tensor)) {
      signal?.throwIfAborted()
      const next = converted(rows, first)
      next.catch(() => {}) // reported in order, below
      waiting.push(next)
      if (waiting.length >= availableParallelism() + 1) yield await waiting.shift()!
    }
    while (waiting.length > 0) yield await waiting.shift()!
  } finally {
    await Promise.allSettled(waiting)
  }
}

/** Cuts a tensor into pieces of at most CHUNK elements. Each piece is a matrix of some of the rows. */
function* inChunks(tensor: NativeTensor): Generator<{ rows: NativeTensor; first: number }> {
  const { shape, pieces } = tensor
  // in vectors, which never have block types, each element is a row, because their pieces may be parts of one
  const [length, ...others] = (shape.length === 1 ? [1, ...shape] : shape) as [number, ...number[]]
  const rows = others.reduce((product, dimension) => product * dimension, 1)
  const rowBytes = pieces.reduce((sum, { bytes }) => sum + bytes, 0) / rows
  const most = Math.max(1, Math.floor(CHUNK / length))
  let before = 0
  for (const piece of pieces) {
    const all = piece.bytes / rowBytes
    for (let first = 0; first < all; first += most) {
      const count = Math.min(most, all - first)
      const part = { ...piece, offset: piece.offset + first * rowBytes, bytes: count * rowBytes }
      yield { rows: { ...tensor, shape: [length, count], pieces: [part] }, first: before + first }
    }
    before += all
  }
}

/**
 * The tokenizer's metadata, or undefined if there is no tokenizer. The file is still usable with a tokenizer next to
 * it.
 */
async function findTokenizer(
  { kind, gguf: { tokenizer } }: NetworkDefinition,
  input: string,
  metadata: ReadonlyMap<string, unknown>,
  given?: string,
): Promise<Record<string, MetadataValue> | undefined> {
  if (!tokenizer) return undefined
  if (given !== undefined) return tokenizer.metadata(given)
  if (metadata.has('tokenizer.ggml.tokens')) return tokenizer.metadata(input)
  try {
    return await tokenizer.metadata(await locateTokenizer(input, kind, tokenizer))
  } catch (error) {
    if (error instanceof FluxError && error.code === 'FLUX_NOT_FOUND') return undefined
    throw error
  }
}
