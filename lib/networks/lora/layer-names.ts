import { FluxError } from '../../errors.js'
import { networkDefinition } from '../registry.js'
import type { LoraNames, LoraRename } from '../definition.js'
import type { LayoutTensor } from '../layout.js'
import type { NetworkFile } from '../network-file.js'

/** A network that LoRAs may change. */
export type AdaptableNetwork = Pick<NetworkFile<object>, 'kind' | 'config'>

/** A linear layer or a norm, or some of its rows, that a LoRA may change. */
export interface LoraTarget {
  /** canonical names */
  weight: string
  bias?: string
  /** the rows that the LoRA's rows are added to */
  firstRow: number
  rows: number
  /** the number of columns of the matrix; undefined for norms */
  input?: number
  /** the LoRA's upper and lower halves are in reverse order */
  halvesSwapped?: true
}

/** Whether LoRAs can change a network. */
export function isAdaptable({ kind }: { kind: string }): boolean {
  return networkDefinition(kind).lora !== undefined
}

/** Finds the layers by their names in LoRA files. */
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
    const firstRow = how.part * rows
    return { ...target, firstRow, rows: how.part === how.of - 1 ? target.rows - firstRow : rows }
  }
}

/** @throws {FluxError} FLUX_UNSUPPORTED for a network that LoRAs cannot change */
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
      layers.set(flat(name), { weight: name, firstRow: 0, rows, ...(input === undefined ? {} : { input }) })
  }
  return layers
}

/** A name in kohya's form, with underscores instead of dots. The scales of all norms are called weights. */
function flat(name: string): string {
  return name.replace(/\.scale$/, '.weight').replaceAll('.', '_')
}

/** A rename that accepts underscores instead of dots as well. */
function anySeparator([from, to, how]: LoraRename): LoraRename {
  return [new RegExp(from.source.replaceAll('\\.', '[._]')), to, how]
}
