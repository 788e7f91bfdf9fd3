import { FluxError } from '../errors.js'
import type { Inspection } from './inspection.js'
import { ARCHITECTURES } from '../networks/architectures.js'
import type { AdaptableNetwork } from '../networks/lora/layer-names.js'
import { loraOf, openLoraFile, type LoraLayer } from '../networks/lora/lora-file.js'

/** The networks that LoRAs for FLUX.1 add to. */
const NETWORKS: [name: string, network: AdaptableNetwork][] = [
  ['the transformer', ARCHITECTURES['flux-dev']],
  ['T5', ARCHITECTURES['t5-xxl']],
  ['CLIP', ARCHITECTURES['clip-l']],
]
const KINDS = {
  product: 'LoRA',
  hadamard: 'LoHa',
  kronecker: 'LoKr',
  difference: 'whole differences',
  replacement: 'norms',
} as const satisfies Record<LoraLayer['kind'], string>

/** Tells what a LoRA is and which layers of FLUX.1 it adds to; undefined for a file of which nothing belongs there. */
export async function describeLora(
  path: string,
): Promise<Pick<Inspection, 'role' | 'architecture' | 'problems'> | undefined> {
  try {
    const file = await openLoraFile(path)
    const found = await Promise.all(
      NETWORKS.map(async ([name, network]) => ({ name, ...(await loraOf(file, network)) })),
    )
    const layers = found.flatMap(({ layers }) => layers)
    if (layers.length === 0) return undefined
    const kinds = [
      ...new Set(layers.map(({ weight, kind }) => (weight.endsWith('.bias') ? 'biases' : KINDS[kind]))),
    ].join(', ')
    const ranks = layers.flatMap(({ one: { up, down } }) => (up ? [down.shape[0]!] : []))
    const [least, most] = [Math.min(...ranks), Math.max(...ranks)]
    const rank = ranks.length === 0 ? '' : least === most ? ` of rank ${least}` : ` of ranks ${least} to ${most}`
    const where = found
      .filter(({ layers }) => layers.length > 0)
      .map(({ name, layers }) => `${countLayers(layers)} in ${name}`)
    const left = found[0]!.left.filter((name) => found.every((one) => one.left.includes(name)))
    const problems =
      left.length > 0
        ? [`${path}: ${left.length} of its tensors belong to nothing here, such as ${left[0]}, and do nothing`]
        : []
    const wider = found[0]!.channels === undefined ? '' : ', for control pictures (Canny, Depth)'
    return { role: 'lora', architecture: `${kinds}${rank} for FLUX.1${wider}: layers ${where.join(', ')}`, problems }
  } catch (error) {
    if (!(error instanceof FluxError)) throw error
    return { role: 'lora', architecture: 'an addition to a model', problems: [error.message] }
  }
}

/** A matrix and its bias count as one. */
function countLayers(layers: readonly LoraLayer[]): number {
  return new Set(layers.map(({ weight, first }) => `${weight.replace(/\.(weight|bias)$/, '')} ${first}`)).size
}
