import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import { FluxError } from '../../errors.js'
import { distribution } from './distributions.js'
import type { Quantize } from './encode-values.js'
import { checkFields } from '../../networks/config-rules.js'
import type { NetworkDefinition } from '../../networks/definition.js'
import type { LayoutTensor } from '../../networks/layout.js'
import { networkExamples } from '../../networks/registry.js'
import type { TensorInfo } from '../../formats/model-file.js'
import { networkOf } from '../../networks/network-file.js'
import { storedType } from '../quantisation-rules.js'
import { RandomData } from './random-data.js'
import { FILE_TYPES, ggufMetadata, type FileType } from './gguf-metadata.js'
import { elementCount } from '../../formats/tensor-types.js'
import { writeModelFile } from '../../formats/write-model-file.js'
import type { TensorSource } from '../../formats/file-header.js'

export interface SynthOptions {
  /** the name of an example in the registry of networks */
  architecture: string
  /** the output path: `.gguf`, or `.safetensors` (F32, F16 and BF16 only) */
  path: string
  /** fields that differ from the architecture's, for instance depth and width */
  config?: Record<string, unknown>
  /** the type of the matrices; the converters' rules determine what stays in higher precision @default 'F16' */
  type?: FileType
  /** 0 to 2^32 - 1 @default 0 */
  seed?: number
  /** ggml's quantiser; needed for block types only */
  quantize?: Quantize
  signal?: AbortSignal
  /** bytes of tensor data written, and the total */
  onProgress?: (done: number, total: number) => void
}

export interface SynthResult {
  path: string
  /** the file's size in bytes */
  size: number
  parameters: number
  tensors: number
  config: object
}

/**
 * Writes a model with random but healthy weights. It has the structure, size and speed of a network without its
 * training, for measurements and tests. The same `seed` produces the same file. Memory stays below 500 MB at any size.
 * A text encoder gets a small tokenizer, inside its GGUF file (T5) or next to it (CLIP: `vocab.json`, `merges.txt`) if
 * there is none.
 *
 * @throws {FluxError} FLUX_BAD_OPTION for an unknown architecture, type, suffix or field; FLUX_NOT_FOUND and
 *   FLUX_BAD_FILE if the path cannot be written. An abort rejects with `signal.reason`; a partial file is removed
 */
export async function synthesize(options: SynthOptions): Promise<SynthResult> {
  const { path, type = 'F16', seed = 0, quantize, signal, onProgress } = options
  const { definition, config } = resolve(options)
  check(options, type, seed)
  const gguf = extname(path).toLowerCase() === '.gguf'
  const layout = definition.layout(config)
  checkLoadable(definition.kind, config, layout)
  const tokenizer = definition.randomTokenizer?.(config)
  const parameters = layout.reduce((sum, { shape }) => sum + elementCount(shape), 0)
  const random = new RandomData(seed, parameters, quantize)
  const tensors = layout.map((tensor, index): TensorSource => {
    const { name, shape } = tensor
    const stored = gguf ? storedType(definition, tensor, type) : type
    async function* data(): AsyncGenerator<Uint8Array> {
      for await (const piece of random.tensor(index, shape, stored, distribution(definition, tensor))) {
        signal?.throwIfAborted()
        yield piece
      }
    }
    return { name, shape, type: stored, data }
  })
  const name = `${options.architecture} with random weights`
  const metadata = gguf ? { ...ggufMetadata(definition, config, name, type), ...tokenizer?.metadata } : { format: 'pt' }
  const size = await writeModelFile(path, tensors, metadata, onProgress)
  await writeTokenizer(dirname(path), tokenizer?.files ?? {})
  return { path, size, parameters, tensors: tensors.length, config }
}

/** Existing files are not changed. */
async function writeTokenizer(directory: string, files: Record<string, string>): Promise<void> {
  const paths = Object.entries(files).map(([name, content]) => [join(directory, name), content] as const)
  if (paths.some(([path]) => existsSync(path))) return
  for (const [path, content] of paths) await writeFile(path, content)
}

function resolve({ architecture: name, config: overrides = {} }: SynthOptions): {
  definition: NetworkDefinition
  config: object
} {
  const examples = networkExamples()
  const example = examples.get(name)
  if (!example) {
    throw new FluxError('FLUX_BAD_OPTION', `architecture is '${name}': give one of ${[...examples.keys()].join(', ')}`)
  }
  const { definition, config } = example
  checkFields<object>(overrides, definition.rules)
  return { definition, config: { ...config, ...overrides } }
}

/**
 * Rejects configurations that could not be loaded again, such as heads that do not divide the width or axes that do not
 * add up.
 */
function checkLoadable(kind: string, config: object, layout: LayoutTensor[]): void {
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
