import { clipLayout, type ClipConfig } from '../clip/layout.js'
import { fluxLayout, type FluxConfig } from '../flux/layout.js'
import type { LayoutTensor } from '../layout.js'
import { t5Layout, type T5Config } from '../t5/layout.js'
import { CLIP_NAMES } from '../clip/names.js'
import { FLUX_NAMES } from '../flux/names.js'
import { FLUX_LORA_RENAMES, LORA_PREFIXES } from './names.js'
import { T5_NAMES } from '../t5/names.js'

export type AdaptableNetwork =
  | { kind: 'flux'; config: FluxConfig }
  | { kind: 't5'; config: T5Config }
  | { kind: 'clip'; config: ClipConfig }

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

type Rule = readonly [from: RegExp, to: string, how?: (typeof FLUX_LORA_RENAMES)[number][2]]
const RULES: Record<AdaptableNetwork['kind'], readonly Rule[]> = {
  flux: [...FLUX_LORA_RENAMES, ...FLUX_NAMES.renames].map(anySeparator),
  t5: T5_NAMES.renames.map(anySeparator),
  clip: CLIP_NAMES.renames.map(anySeparator),
}

export function isAdaptable(network: { kind: string; config: unknown }): network is AdaptableNetwork {
  return Object.hasOwn(RULES, network.kind)
}

/** Finds the layers that the names in LoRAs' files mean. */
export function layerFinder(network: AdaptableNetwork): (layer: string) => LoraTarget | undefined {
  const layers = layersOf(layoutOf(network))
  const prefix = LORA_PREFIXES[network.kind]
  return (layer) => {
    if (!prefix.test(layer)) return undefined
    const name = `${layer.replace(prefix, '')}.weight`
    const [from, to, how] = RULES[network.kind].find(([from]) => from.test(name)) ?? []
    const target = layers.get(flat(from === undefined ? name : name.replace(from, to!)))
    if (!target || how === undefined) return target
    if (how === 'halves swapped') return { ...target, halvesSwapped: true }
    if (network.kind !== 'flux' || (typeof how === 'object' && !('part' in how)) || how === '1 x 1') return undefined
    // query, key and value have as many rows as the model is wide; the MLP takes what is left
    const hidden = network.config.hiddenSize
    if (how === 'query, key and value') return { ...target, rows: 3 * hidden }
    const first = how.part * hidden
    return { ...target, first, rows: how.part === 3 ? target.rows - first : hidden }
  }
}

function layoutOf(network: AdaptableNetwork): LayoutTensor[] {
  if (network.kind === 'flux') return fluxLayout(network.config)
  return network.kind === 't5' ? t5Layout(network.config) : clipLayout(network.config)
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
function anySeparator([from, to, how]: Rule): Rule {
  return [new RegExp(from.source.replaceAll('\\.', '[._]')), to, how]
}
