import { availableParallelism } from 'node:os'
import { FluxError } from '../errors.js'
import type { Inspection } from './inspection.js'
import { describeLora } from './lora.js'
import { looksLikeLora } from '../networks/lora/lora-file.js'
import { denoiserOf } from '../families/family.js'
import { familyOf } from '../families/registry.js'
import { openModelFile } from '../formats/open.js'
import type { MetadataValue, ModelFile } from '../formats/model-file.js'
import { flopsOf, identify, isCoarse, networkOf, type NetworkFile } from '../networks/network-file.js'
import { elementCount } from '../formats/tensor-types.js'
import { networkDefinition, withoutArticle } from '../networks/registry.js'
import { badOption } from '../options/checks.js'
import { imagesFor, needsOf } from './needs.js'
import { devicePeak, CostModel } from '../cost/cost-model.js'

const MAX_VALUE = 200

/**
 * Describes a model file, based only on its header. Files without a known network have the role `unknown`.
 *
 * @throws {FluxError} FLUX_BAD_OPTION; FLUX_NOT_FOUND; FLUX_BAD_FILE when it is not GGUF or safetensors or is damaged;
 *   FLUX_UNSUPPORTED for an unknown version or tensor type
 */
export async function inspect(path: string): Promise<Inspection> {
  if (typeof path !== 'string' || path === '') throw badOption('path', path, 'the path of a model file')
  return inspectFile(await openModelFile(path))
}

/** Does the same as {@link inspect} for a file that is already open. */
export async function inspectFile(file: ModelFile): Promise<Inspection> {
  const { network, ...inspection } = described(file)
  if (inspection.role === 'unknown' && looksLikeLora(file)) return { ...inspection, ...(await describeLora(file)) }
  const step = network && (await stepSeconds(network))
  return step === undefined ? inspection : { ...inspection, step }
}

/** Does the same as {@link inspectFile}, without anything that has to be measured. */
export function describeFile(file: ModelFile): Inspection {
  const { network: _, ...inspection } = described(file)
  return inspection
}

/** Describes a file, with `network` if it can be loaded. */
function described(file: ModelFile): Inspection & { network?: NetworkFile<object> } {
  const { path } = file
  const identity = identify(file)
  const definition = identity?.kind === undefined ? undefined : networkDefinition(identity.kind)
  const found: Pick<Inspection, 'role' | 'architecture' | 'problems' | 'config' | 'weights'> & {
    network?: NetworkFile<object>
  } = {
    role: definition?.role ?? 'unknown',
    architecture: identity ? withoutArticle(identity.label) : 'unknown',
    problems: [],
  }
  if (definition) {
    try {
      const network = networkOf(definition.kind, file)
      const { config, bytes } = network
      const architecture = definition.describe?.(config) ?? found.architecture
      Object.assign(found, { network, config, weights: bytes, architecture })
    } catch (error) {
      if (!(error instanceof FluxError)) throw error
      found.problems.push(error.message)
    }
  } else
    found.problems.push(
      `${path}: ${identity ? `${identity.label} cannot be loaded` : 'its tensors have no known names'}`,
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
    needs: definition ? [...needsOf(definition.kind), ...(found.network ? imagesFor(found.network) : [])] : [],
  }
}

/**
 * Returns undefined for networks without steps, and when the native addon is missing, which is not needed to describe
 * files.
 */
async function stepSeconds(network: NetworkFile<object>): Promise<number | undefined> {
  const { stepShape } = networkDefinition(network.kind)
  if (!stepShape) return undefined
  const family = familyOf([network])
  const { maxSequenceLength } = family.variant({ [denoiserOf(family)]: network } as never).defaults
  const costModel = new CostModel(() => devicePeak(undefined, availableParallelism()))
  const flops = flopsOf(network, stepShape(1024, 1024, maxSequenceLength))
  try {
    return await costModel.predict('step', flops, isCoarse(network))
  } catch (error) {
    if (error instanceof FluxError) return undefined
    throw error
  }
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

function shortEntry(key: string, value: MetadataValue): [string, string | number | boolean][] {
  if (typeof value === 'bigint') return [[key, String(value)]]
  if (typeof value === 'object') return [[key, `${value.length} values`]]
  return typeof value === 'string' && value.length > MAX_VALUE ? [] : [[key, value]]
}
