import { availableParallelism } from 'node:os'
import { FluxError } from '../errors.js'
import type { Inspection } from './inspection.js'
import { describeLora } from './lora.js'
import type { NativeTensor, NetworkKind } from '../native/addon.js'
import type { FluxConfig } from '../networks/flux/layout.js'
import { looksLikeLora } from '../networks/lora/lora-file.js'
import { fluxVariant } from '../families/flux1/variants.js'
import { openModelFile } from '../formats/open.js'
import type { MetadataValue, ModelFile } from '../formats/model-file.js'
import { identify, networkOf, type NetworkFile } from '../networks/network-file.js'
import { elementCount, TENSOR_TYPES } from '../formats/tensor-types.js'
import { transformerOperations } from '../cost/flops.js'
import { badOption } from '../options/checks.js'
import { deviceRoof, Speed } from '../cost/cost-model.js'

const ROLES = {
  flux: 'transformer',
  t5: 't5',
  clip: 'clip',
  autoencoder: 'autoencoder',
  'tiny-decoder': 'preview decoder',
} as const satisfies Record<NetworkKind, Inspection['role']>
const MAX_VALUE = 200

/** FLUX.1's published variants by the channels of an image token: 16 latent channels of 2 x 2, and what stands beside them. */
const FLUX_VARIANTS: Record<number, string> = { 64: 'dev', 128: 'Canny or Depth', 384: 'Fill' }

/**
 * Tells what a model file is, from its header only. Files of no known network have the role `unknown`.
 *
 * @throws {FluxError} FLUX_BAD_OPTION; FLUX_NOT_FOUND; FLUX_BAD_FILE when it is no GGUF or safetensors file or is damaged; FLUX_UNSUPPORTED
 *   for an unknown version or tensor type
 */
export async function inspect(path: string): Promise<Inspection> {
  if (typeof path !== 'string' || path === '') throw badOption('path', path, 'the path of a model file')
  const file = await openModelFile(path)
  const inspection = await inspectFile(file)
  return inspection.role === 'unknown' && looksLikeLora(file)
    ? { ...inspection, ...(await describeLora(path)) }
    : inspection
}

/** {@link inspect} for a file that is open already. */
export async function inspectFile(file: ModelFile): Promise<Inspection> {
  const inspection = describeFile(file)
  if (inspection.role !== 'transformer' || !inspection.config) return inspection
  const step = await stepSeconds(networkOf('flux', file))
  return step === undefined ? inspection : { ...inspection, step }
}

/** {@link inspectFile} without what has to be measured. */
export function describeFile(file: ModelFile): Inspection {
  const { path } = file
  const identity = identify(file)
  const found: Pick<Inspection, 'role' | 'architecture' | 'problems' | 'config' | 'weights'> = {
    role: identity?.kind ? ROLES[identity.kind] : 'unknown',
    architecture: identity?.what.replace(/^an? /, '') ?? 'unknown',
    problems: [],
  }
  if (identity?.kind) {
    try {
      const { config, bytes } = networkOf(identity.kind, file)
      Object.assign(found, { config, weights: bytes })
      if (identity.kind === 'flux') found.architecture = fluxArchitecture(found.config as FluxConfig)
    } catch (error) {
      if (!(error instanceof FluxError)) throw error
      found.problems.push(error.message)
    }
  } else
    found.problems.push(
      `${path}: ${identity ? `${identity.what} cannot be loaded` : 'its tensors have no known names'}`,
    )
  const tensors = [...file.tensors.values()]
  return {
    path: file.path,
    format: file.format,
    size: file.size,
    ...found,
    parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    tensors: tensors.length,
    types: typeUses(file),
    metadata: Object.fromEntries([...file.metadata].flatMap(([key, value]) => shortEntry(key, value))),
    tokenizer: file.metadata.has('tokenizer.ggml.tokens'),
  }
}

/** undefined where the native part is missing, too: it is not needed to tell what a file is */
async function stepSeconds(transformer: NetworkFile<FluxConfig>): Promise<number | undefined> {
  const { config } = transformer
  const speed = new Speed(() => deviceRoof(undefined, availableParallelism()))
  const operations = transformerOperations(config, 64 * 64, fluxVariant(transformer).defaults.maxSequenceLength)
  try {
    return await speed.foretell('step', operations, isCoarse(transformer))
  } catch (error) {
    if (error instanceof FluxError) return undefined
    throw error
  }
}

function fluxArchitecture({ inChannels, guidanceEmbed }: FluxConfig): string {
  const variant = FLUX_VARIANTS[inChannels] ?? `${inChannels} channels`
  if (guidanceEmbed) return `FLUX.1 with guidance (${variant})`
  return inChannels === 64 ? 'FLUX.1 without guidance (schnell)' : `FLUX.1 without guidance (${variant})`
}

function typeUses(file: ModelFile): Inspection['types'] {
  const types: Inspection['types'] = {}
  for (const { type, byteLength } of file.tensors.values()) {
    const use = (types[type] ??= { count: 0, bytes: 0 })
    use.count++
    use.bytes += byteLength
  }
  return types
}

/** Whether most of a network's weights are in types no finer than bfloat16, so that activations beside them may be rounded to it. */
export function isCoarse({ tensors }: Pick<NetworkFile<unknown>, 'tensors'>): boolean {
  const fine: number[] = [TENSOR_TYPES.F32.id, TENSOR_TYPES.F16.id]
  const bytes = (some: NativeTensor[]) =>
    some.flatMap(({ pieces }) => pieces).reduce((sum, piece) => sum + piece.bytes, 0)
  return 2 * bytes(tensors.filter(({ type }) => fine.includes(type))) < bytes(tensors)
}

function shortEntry(key: string, value: MetadataValue): [string, string | number | boolean][] {
  if (typeof value === 'bigint') return [[key, String(value)]]
  if (typeof value === 'object') return [[key, `${value.length} values`]]
  return typeof value === 'string' && value.length > MAX_VALUE ? [] : [[key, value]]
}
