import { FluxError } from '../errors.js'
import type { NativeTensor } from '../native/addon.js'
import type { NetworkDefinition } from './definition.js'
import type { Flops } from './flops.js'
import type { LayoutTensor, TensorRole } from './layout.js'
import { openModelFile } from '../formats/open.js'
import type { ModelFile } from '../formats/model-file.js'
import { networkDefinition, networkDefinitions, type NetworkConfigs } from './registry.js'
import { FOREIGN_NAMES } from './unsupported.js'
import type { PlacedTensor } from './tensor-slices.js'
import { canonicalTensors, holdsNetwork } from './name-table.js'
import { TENSOR_TYPES, tensorBytes, type TensorType } from '../formats/tensor-types.js'

/** A path, optionally with configuration values that the tensors' shapes cannot show. */
export type NetworkSource<C> = string | { path: string; config?: Partial<C> }

/** A model file whose tensors are exactly those of one network. */
export interface NetworkFile<C> {
  /** its kind in the registry */
  kind: string
  file: ModelFile
  config: C
  /** in the order of the layout */
  tensors: NativeTensor[]
  /** bytes that its weights take in memory: only its own tensors, in the types they have in memory */
  bytes: number
}

const FLOATS: readonly TensorType[] = ['F32', 'F16', 'BF16', 'F8_E4M3', 'F8_E5M2']
const QUANTISED: readonly TensorType[] = [
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q8_0',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ4_NL',
  'IQ4_XS',
  'IQ3_XXS',
  'IQ3_S',
  'IQ2_XXS',
  'IQ2_XS',
  'IQ2_S',
  'IQ1_S',
  'IQ1_M',
]
const ROLE_TYPES: Record<TensorRole, readonly TensorType[]> = {
  matrix: [...FLOATS, ...QUANTISED],
  embedding: [...FLOATS, ...QUANTISED],
  convolution: FLOATS,
  bias: FLOATS,
  norm: FLOATS,
}

/**
 * The kinds of networks that a file contains, completely or in part. A checkpoint has more than one. A file of a known
 * other kind has none.
 */
export function networksIn(file: ModelFile): string[] {
  return foreignMark(file) === undefined ? definitionsIn(file).map(({ kind }) => kind) : []
}

const definitionsIn = (file: ModelFile): NetworkDefinition[] =>
  networkDefinitions().filter(({ names }) => holdsNetwork(file.tensors, names))

function foreignMark(file: ModelFile): string | undefined {
  const names = [...file.tensors.keys()]
  const has = (mark: RegExp) => names.some((name) => mark.test(name))
  return FOREIGN_NAMES.find(([mark, , unless]) => has(mark) && !(unless && has(unless)))?.[1]
}

/**
 * Identifies a file by its tensor names: as a network (the first one, if the file contains several) or as a known kind
 * of file that is not supported.
 */
export function identify(file: ModelFile): { kind?: string; label: string; foreign: boolean } | undefined {
  const foreign = foreignMark(file)
  if (foreign !== undefined) return { label: foreign, foreign: true }
  const [found] = definitionsIn(file)
  return found && { kind: found.kind, label: found.label, foreign: false }
}

/**
 * Opens a model file as one network. Names are converted to canonical names, the configuration is read from shapes, and
 * every tensor of the layout is checked for presence, shape and type.
 *
 * @throws {FluxError} FLUX_NOT_FOUND; FLUX_BAD_FILE for a damaged or incomplete file or one of another network;
 *   FLUX_UNSUPPORTED for names, types or numbers that are not supported; FLUX_BAD_OPTION for an invalid source or
 *   override
 */
export async function openNetworkFile<K extends string>(
  kind: K,
  source: NetworkSource<NetworkConfigs[K]>,
): Promise<NetworkFile<NetworkConfigs[K]>> {
  const { path, config } = typeof source === 'string' ? { path: source } : (source ?? {})
  if (typeof path !== 'string' || path === '') {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `the source of ${networkDefinition(kind).label} has to be a path or { path, config? }, not ${JSON.stringify(source)}`,
    )
  }
  return networkOf(kind, await openModelFile(path), config)
}

/** {@link openNetworkFile} for a file that is already open. */
export function networkOf<K extends string>(
  kind: K,
  file: ModelFile,
  overrides?: Partial<NetworkConfigs[K]>,
): NetworkFile<NetworkConfigs[K]> {
  const definition = networkDefinition(kind)
  try {
    const named = namedTensors(definition, file)
    const config = definition.readConfig(named, overrides)
    const layout = definition.layout(config)
    checkTensors(layout, named)
    const tensors = layout.map(({ name }) => nativeTensor(name, named.get(name)!))
    const bytes = layout.reduce(
      (sum, tensor) => sum + tensorBytes(heldType(tensor, named.get(tensor.name)!), tensor.shape),
      0,
    )
    return { kind, file, config, tensors, bytes }
  } catch (error) {
    throw error instanceof FluxError ? new FluxError(error.code, `${file.path}: ${error.message}`) : error
  }
}

/** {@link NetworkDefinition.flops} of a network in a file. */
export function flopsOf({ kind, config }: Pick<NetworkFile<object>, 'kind' | 'config'>, shape: number[]): Flops {
  return networkDefinition(kind).flops(config, shape)
}

function namedTensors<C extends object>(
  { label, names }: NetworkDefinition<C>,
  file: ModelFile,
): Map<string, PlacedTensor> {
  const parts = file.metadata.get('split.count')
  if (typeof parts === 'number' && parts > 1 && !file.parts) {
    const remedy =
      'Give all parts the names that they had, ending with -00001-of-0000N.gguf, or join them with llama-gguf-split --merge'
    throw new FluxError('FLUX_UNSUPPORTED', `this is one of ${parts} parts of a split GGUF file. ${remedy}`)
  }
  const identity = identify(file)
  if (identity?.foreign) throw new FluxError('FLUX_UNSUPPORTED', `this is ${identity.label}; ${label} is needed`)
  const named = canonicalTensors(file.tensors, names)
  if (named) return named
  const seems = identity
    ? `this seems to be ${identity.label}`
    : `none of its ${file.tensors.size} tensors has a known name`
  throw new FluxError('FLUX_BAD_FILE', `${seems}, not ${label}. Give the file that belongs here`)
}

function checkTensors(layout: LayoutTensor[], tensors: Map<string, PlacedTensor>): void {
  const missing = layout.filter(({ name }) => !tensors.has(name))
  if (missing.length > 0)
    throw new FluxError('FLUX_BAD_FILE', `${listed(missing)} missing. Use a complete copy of the model`)
  const known = new Set(layout.map(({ name }) => name))
  const unknown = [...tensors].filter(([name]) => !known.has(name)).map(([, tensor]) => tensor)
  if (unknown.length > 0) {
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${listed(unknown)} unknown here, so the file is a variant that is not supported. Use the official structure`,
    )
  }
  for (const { name, shape, role } of layout) {
    const tensor = tensors.get(name)!
    if (tensor.shape.length !== shape.length || tensor.shape.some((dimension, i) => dimension !== shape[i])) {
      throw new FluxError(
        'FLUX_BAD_FILE',
        `tensor ${tensor.name} has shape [${tensor.shape.join(', ')}], but the others ask for [${shape.join(', ')}]. Use another copy`,
      )
    }
    if (!ROLE_TYPES[role].includes(tensor.type)) {
      throw new FluxError(
        'FLUX_UNSUPPORTED',
        `tensor ${tensor.name} has type ${tensor.type}; tensors of the role ${role} may be ${ROLE_TYPES[role].join(', ')}. Use a version in one of these`,
      )
    }
  }
}

function listed(tensors: { name: string }[]): string {
  const first = tensors[0]!.name
  return tensors.length === 1 ? `tensor ${first} is` : `tensor ${first} and ${tensors.length - 1} more are`
}

/**
 * Matrices and embeddings keep the type they have in the file, or are widened from float8. All other tensors become
 * F32.
 */
function heldType({ role }: LayoutTensor, { type }: PlacedTensor): TensorType {
  if (role !== 'matrix' && role !== 'embedding') return 'F32'
  return FLOAT8[type] ? 'BF16' : type
}

const FLOAT8: Partial<Record<TensorType, NonNullable<NativeTensor['float8']>>> = { F8_E4M3: 'e4m3fn', F8_E5M2: 'e5m2' }

function nativeTensor(name: string, { type, shape, pieces }: PlacedTensor): NativeTensor {
  const float8 = FLOAT8[type]
  return {
    name,
    type: TENSOR_TYPES[float8 ? 'BF16' : type].id,
    shape: shape.toReversed(),
    pieces,
    ...(float8 ? { float8 } : {}),
  }
}

/**
 * Whether most of a network's weights have types no finer than bfloat16, so that the activations may be rounded to it.
 */
export function isCoarse({ tensors }: Pick<NetworkFile<object>, 'tensors'>): boolean {
  const fine: number[] = [TENSOR_TYPES.F32.id, TENSOR_TYPES.F16.id]
  const bytes = (some: NativeTensor[]) =>
    some.flatMap(({ pieces }) => pieces).reduce((sum, piece) => sum + piece.bytes, 0)
  return 2 * bytes(tensors.filter(({ type }) => fine.includes(type))) < bytes(tensors)
}
