import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import { FluxError } from '../../errors.js'
import { ARCHITECTURES, type Architecture, type ArchitectureName } from '../../networks/architectures.js'
import { distribution } from './distributions.js'
import type { Quantize } from './encode-values.js'
import { layoutOf } from '../../networks/layouts.js'
import type { AutoencoderConfig } from '../../networks/autoencoder/layout.js'
import type { ClipConfig } from '../../networks/clip/layout.js'
import type { FluxConfig } from '../../networks/flux/layout.js'
import type { LayoutTensor } from '../../networks/layout.js'
import type { T5Config } from '../../networks/t5/layout.js'
import type { TinyDecoderConfig } from '../../networks/taesd/layout.js'
import type { TensorInfo } from '../../formats/model-file.js'
import { networkOf } from '../../networks/network-file.js'
import { storedType } from '../quantisation-rules.js'
import { RandomData } from './random-data.js'
import { SMALLEST_CLIP_VOCABULARY, syntheticClipVocabulary, syntheticT5Vocabulary } from '../../tokenizers/synthetic.js'
import { FILE_TYPES, ggufMetadata, type FileType } from './gguf-metadata.js'
import { elementCount } from '../../formats/tensor-types.js'
import { writeModelFile } from '../../formats/write-model-file.js'
import type { TensorSource } from '../../formats/file-header.js'

export interface SynthOptions {
  architecture: ArchitectureName
  /** where to write: `.gguf`, or `.safetensors` (F32, F16 and BF16 only) */
  path: string
  /** fields that differ from the architecture's, depth and width for instance */
  config?: Partial<FluxConfig & T5Config & ClipConfig & AutoencoderConfig & TinyDecoderConfig>
  /** of the matrices; converters' rules say what stays in higher precision @default 'F16' */
  type?: FileType
  /** 0 to 2^32 - 1 @default 0 */
  seed?: number
  /** ggml's quantiser; needed for block types only */
  quantize?: Quantize
  signal?: AbortSignal
  /** bytes of tensor data written, and in all */
  onProgress?: (done: number, total: number) => void
}

export interface SynthResult {
  path: string
  /** bytes of the file */
  size: number
  parameters: number
  tensors: number
  config: Architecture['config']
}

/**
 * Writes a model with random but healthy weights: the structure, size and speed of a network without its training, for measurements and
 * tests. Deterministic from `seed`; memory stays below 500 MB at any size. A T5 in a GGUF file has a small tokenizer inside, a CLIP gets one
 * beside it (`vocab.json`, `merges.txt`) where there is none.
 *
 * @throws {FluxError} FLUX_BAD_OPTION for an unknown architecture, type, suffix or field; FLUX_NOT_FOUND and FLUX_BAD_FILE when the path cannot
 *   be written. An abort rejects with `signal.reason`; a partial
 *   file is removed
 */
export async function synthesize(options: SynthOptions): Promise<SynthResult> {
  const { path, type = 'F16', seed = 0, quantize, signal, onProgress } = options
  const architecture = resolve(options)
  check(options, type, seed)
  const gguf = extname(path).toLowerCase() === '.gguf'
  const layout = layoutOf(architecture)
  checkLoadable(architecture, layout)
  const parameters = layout.reduce((sum, { shape }) => sum + elementCount(shape), 0)
  const random = new RandomData(seed, parameters, quantize)
  const tensors = layout.map((tensor, index): TensorSource => {
    const { name, shape } = tensor
    const stored = gguf ? storedType(tensor, type) : type
    async function* data(): AsyncGenerator<Uint8Array> {
      for await (const piece of random.tensor(index, shape, stored, distribution(architecture.kind, tensor))) {
        signal?.throwIfAborted()
        yield piece
      }
    }
    return { name, shape, type: stored, data }
  })
  const vocabulary = architecture.kind === 't5' ? syntheticT5Vocabulary(architecture.config.vocabSize) : undefined
  const metadata = gguf
    ? ggufMetadata(architecture, `${options.architecture} with random weights`, type, vocabulary)
    : { format: 'pt' }
  const size = await writeModelFile(path, tensors, metadata, onProgress)
  if (architecture.kind === 'clip') await writeClipTokenizer(dirname(path), architecture.config.vocabSize)
  return { path, size, parameters, tensors: tensors.length, config: architecture.config }
}

/** `vocab.json` and `merges.txt` for a CLIP encoder, which has no room for them in its file. Files that are there already are left alone. */
async function writeClipTokenizer(directory: string, vocabSize: number): Promise<void> {
  const [vocabPath, mergesPath] = [join(directory, 'vocab.json'), join(directory, 'merges.txt')]
  if (existsSync(vocabPath) || existsSync(mergesPath) || vocabSize < SMALLEST_CLIP_VOCABULARY) return
  const { vocab, merges } = syntheticClipVocabulary(vocabSize)
  await writeFile(vocabPath, JSON.stringify(vocab))
  await writeFile(mergesPath, `${['#version: 0.2', ...merges].join('\n')}\n`)
}

function resolve({ architecture: name, config: overrides = {} }: SynthOptions): Architecture {
  if (!Object.hasOwn(ARCHITECTURES, name)) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `architecture is '${name}': give one of ${Object.keys(ARCHITECTURES).join(', ')}`,
    )
  }
  const { kind, config }: Architecture = ARCHITECTURES[name]
  for (const [field, value] of Object.entries(overrides)) {
    const original = (config as unknown as Record<string, unknown>)[field]
    if (original === undefined) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `config.${field}: ${name} has no such field; it has ${Object.keys(config).join(', ')}`,
      )
    }
    const most = BLOCK_COUNTS.includes(field) ? 256 : 2 ** 20
    if (!isLike(original, value, most)) {
      const like = `${JSON.stringify(original)}, up to ${most}`
      throw new FluxError('FLUX_BAD_OPTION', `config.${field} is ${JSON.stringify(value)}: give something like ${like}`)
    }
  }
  return { kind, config: { ...config, ...overrides } } as Architecture
}

/** Fields that say how many blocks are laid out, so their size is checked before. */
const BLOCK_COUNTS = ['depth', 'depthSingleBlocks', 'numLayers', 'numResBlocks']

/** Same type as the original; numbers positive, and whole where the original is. */
function isLike(original: unknown, value: unknown, most: number): boolean {
  if (Array.isArray(original)) {
    return (
      Array.isArray(value) &&
      value.length > 0 &&
      value.length <= 8 &&
      value.every((element) => isLike(original[0], element, most))
    )
  }
  if (typeof original !== 'number') return typeof value === typeof original
  return (
    typeof value === 'number' && value > 0 && value <= most && (!Number.isInteger(original) || Number.isInteger(value))
  )
}

/** Refuses what could not be loaded again: heads that do not divide the width, axes that do not add up and the like. */
function checkLoadable({ kind, config }: Architecture, layout: LayoutTensor[]): void {
  const fractional = layout.find(({ shape }) => !shape.every(Number.isInteger))
  if (fractional) {
    const shape = fractional.shape.join(', ')
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `config makes ${fractional.name} [${shape}]: give a width that its heads or groups divide`,
    )
  }
  const tensors = new Map(
    layout.map((tensor): [string, TensorInfo] => [tensor.name, { ...tensor, type: 'F32', offset: 0, byteLength: 0 }]),
  )
  networkOf(kind, { path: 'config', format: 'gguf', size: 0, metadata: new Map(), tensors }, config)
}

function check({ path, quantize }: SynthOptions, type: FileType, seed: number): void {
  const refuse = (message: string): never => {
    throw new FluxError('FLUX_BAD_OPTION', message)
  }
  if (!Object.hasOwn(FILE_TYPES, type)) refuse(`type is '${type}': give one of ${Object.keys(FILE_TYPES).join(', ')}`)
  const plain = type === 'F32' || type === 'F16' || type === 'BF16'
  if (!plain && extname(path).toLowerCase() === '.safetensors') {
    refuse(`${path}: safetensors cannot hold ${type}; give a .gguf path, or type F32, F16 or BF16`)
  }
  if (!plain && !quantize)
    refuse(`type is ${type}, which needs the native quantiser: give \`quantize\`, or use F32, F16 or BF16`)
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32)
    refuse(`seed is ${seed}: give a whole number from 0 to 4294967295`)
}
