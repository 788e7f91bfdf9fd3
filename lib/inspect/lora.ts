import { FluxError } from '../errors.js'
import type { ModelFile } from '../formats/model-file.js'
import type { Inspection } from './inspection.js'
import { unmatchedByAll } from '../networks/lora/assignment.js'
import { networkDefinitions, withoutArticle } from '../networks/registry.js'
import { loraOf, requireLora, type LoraLayer } from '../networks/lora/lora-file.js'

const KINDS = {
  product: 'LoRA',
  hadamard: 'LoHa',
  kronecker: 'LoKr',
  difference: 'whole differences',
  replacement: 'norms',
} as const satisfies Record<LoraLayer['kind'], string>

/**
 * Describes a LoRA and the layers of known networks that it changes. Returns undefined if nothing in the file fits any.
 */
export async function describeLora(
  file: ModelFile,
): Promise<Pick<Inspection, 'role' | 'architecture' | 'needs' | 'problems'> | undefined> {
  try {
    requireLora(file)
    const found = await Promise.all(
      networkDefinitions()
        .filter(({ lora }) => lora)
        .map(async ({ kind, label, examples }) => {
          const config = Object.values(examples)[0]!
          return { label, ...(await loraOf(file, { kind, config })) }
        }),
    )
    const layers = found.flatMap(({ layers }) => layers)
    if (layers.length === 0) return undefined
    const kinds = [
      ...new Set(layers.map(({ weight, kind }) => (weight.endsWith('.bias') ? 'biases' : KINDS[kind]))),
    ].join(', ')
    const ranks = layers.flatMap(({ left: { up, down } }) => (up ? [down.shape[0]!] : []))
    const [least, most] = [Math.min(...ranks), Math.max(...ranks)]
    const rank = ranks.length === 0 ? '' : least === most ? ` of rank ${least}` : ` of ranks ${least} to ${most}`
    const where = found
      .filter(({ layers }) => layers.length > 0)
      .map(({ label, layers }) => `${countLayers(layers)} in the ${withoutArticle(label)}`)
    const unmatched = unmatchedByAll(found)
    const problems =
      unmatched.length > 0
        ? [
            `${file.path}: ${unmatched.length} of its tensors belong to nothing here, such as ${unmatched[0]}, and do nothing`,
          ]
        : []
    const wider = found.every(({ channels }) => channels === undefined) ? '' : ', for control images (Canny, Depth)'
    const architecture = `${kinds}${rank}${wider}: layers ${where.join(', ')}`
    const needs = ['a model next to it: give it with --lora, or merge it with ggflux convert --lora']
    return { role: 'lora', architecture, needs, problems }
  } catch (error) {
    if (!(error instanceof FluxError)) throw error
    return { role: 'lora', architecture: 'an addition to a model', needs: [], problems: [error.message] }
  }
}

/** A matrix and its bias count as one layer. */
function countLayers(layers: readonly LoraLayer[]): number {
  return new Set(layers.map(({ weight, firstRow }) => `${weight.replace(/\.(weight|bias)$/, '')} ${firstRow}`)).size
}
