import { FluxError } from '../../errors.js'
import { networkDefinition } from '../registry.js'
import type { LoraNames, LoraRename } from '../definition.js'
import type { LayoutTensor } from '../layout.js'
import type { NetworkFile } from '../network-file.js'

/** A network that LoRAs may add to. */
export type AdaptableNetwork = Pick<NetworkFile<object>, 'kind' | 'config'>

/** A linear layer or a norm that a LoRA may change, or some of its rows. */
export interface LoraTarget {
  /** canonical names */
  weight: string
  bias?: string
  /** the rows that the LoRA's belong to */
  first: number
  rows: number
  /** columns of the matrix; norms have none */
  input?: number
  /** the LoRA's upper and lower half stand the other way round */
  halvesSwapped?: true
}

/** Whether LoRAs can add to a network. */
export function isAdaptable({ kind }: { kind: string }): boolean {
  return networkDefinition(kind).lora !== undefined
}

/** Finds the layers that the names in LoRAs' files mean. */
export function layerFinder({ kind, config }: AdaptableNetwork): (layer: string) => LoraTarget | undefined {
  const { layout, names } = networkDefinition(kind)
  const { prefix, renames = [], partRows } = loraNames(kind)
  const layers = layersOf(layout(config))
  const rules = [...renames, ...names.renames].map(anySeparator)
  return (layer) => {
    if (!prefix.test(layer)) return undefined
    const name = `${layer.replace(prefix, '')}.weight`
    const [from, to, how] = rules.find(([from]) => from.test(name)) ?? []
    const target = layers.get(flat(from === undefined ? name : name.replace(from, to!)))
    if (!target || how === undefined) return target
    if (how === 'halves swapped') return { ...target, halvesSwapped: true }
    if (how === '1 x 1' || 'split' in how || !partRows) return undefined
    const rows = partRows(config)
    if ('leading' in how) return { ...target, rows: how.leading * rows }
    const first = how.part * rows
    return { ...target, first, rows: how.part === how.of - 1 ? target.rows - first : rows }
  }
}

/** @throws {FluxError} FLUX_UNSUPPORTED for a network that LoRAs cannot add to */
export function loraNames(kind: string): LoraNames<object> {
  const { lora, label } = networkDefinition(kind)
  if (lora) return lora
  throw new FluxError('FLUX_UNSUPPORTED', `LoRAs cannot be added to ${label}: leave them out`)
}

/** Linear layers and norms by the flat name of their weight. */
function layersOf(layout: readonly LayoutTensor[]): Map<string, LoraTarget> {
  const layers = new Map<string, LoraTarget>()
  for (const { name, shape, role } of layout) {
    const [rows, input] = shape as [number, number?]
    if (name.endsWith('.bias')) layers.get(flat(name.replace(/bias$/, 'weight')))!.bias = name
    else if (role === 'matrix' || role === 'norm')
      layers.set(flat(name), { weight: name, first: 0, rows, ...(input === undefined ? {} : { input }) })
  }
  return layers
}

/** A name as kohya writes it, with underscores for dots; all norms' scales are called weights. */
function flat(name: string): string {
  return name.replace(/\.scale$/, '.weight').replaceAll('.', '_')
}

/** A rename that takes underscores for dots as well. */
function anySeparator([from, to, how]: LoraRename): LoraRename {
  return [new RegExp(from.source.replaceAll('\\.', '[._]')), to, how]
}
