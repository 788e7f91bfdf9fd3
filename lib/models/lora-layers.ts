import { clipLayout, type ClipConfig } from './layouts/clip.js'
import { fluxLayout, type FluxConfig } from './layouts/flux.js'
import { t5Layout, type T5Config } from './layouts/t5.js'
import { FLUX_NAMES } from './names/flux.js'

export type AdaptableNetwork = { kind: 'flux'; config: FluxConfig } | { kind: 't5'; config: T5Config } | { kind: 'clip'; config: ClipConfig }

/** A matrix that a LoRA may add to: its canonical name, and which of its rows. */
export interface LoraTarget {
  weight: string
  first: number
  rows: number
  input: number
}

const PREFIXES = ['base_model.model.', 'model.diffusion_model.', 'diffusion_model.', 'transformer.', 'unet.', '']
/** kohya's, OneTrainer's and diffusers' names of the encoders. */
const ENCODERS = { clip: /^(lora_te1?_|lora_te1?\.|text_encoder\.)/, t5: /^(lora_te[23]_|lora_te[23]\.|text_encoder_[23]\.)/ }

/** Finds the canonical names of norms' scales, which LoRAs may replace, and their lengths. Only files for the transformer have such. */
export function normFinder(network: AdaptableNetwork): (name: string) => { name: string; length: number } | undefined {
  if (network.kind !== 'flux') return () => undefined
  const norms = new Map(fluxLayout(network.config).filter(({ role }) => role === 'norm').map(({ name, shape }) => [name, shape[0]!]))
  return (name) => {
    const bare = withoutPrefix(name)
    const [from, to] = FLUX_NAMES.renames.find(([from]) => from.test(bare)) ?? []
    const canonical = from === undefined ? bare : bare.replace(from, to!)
    const length = norms.get(canonical)
    return length === undefined ? undefined : { name: canonical, length }
  }
}

function withoutPrefix(name: string): string {
  return name.slice(PREFIXES.find((prefix) => name.startsWith(prefix))!.length)
}

/** Finds the layers that the names in LoRAs' files mean. */
export function layerFinder(network: AdaptableNetwork): (layer: string) => LoraTarget | undefined {
  if (network.kind === 'flux') return new FluxLayers(network.config).find
  const layout = network.kind === 't5' ? t5Layout(network.config) : clipLayout(network.config)
  const matrices = layout.filter(({ role }) => role === 'matrix')
  // dots and underscores in the same places
  const flat = new Map(matrices.map(({ name, shape }) => [name.replace(/\.weight$/, '').replaceAll('.', '_'), { weight: name, first: 0, rows: shape[0]!, input: shape[1]! }]))
  const prefix = ENCODERS[network.kind]
  return (layer) => {
    if (!prefix.test(layer)) return undefined
    const name = layer.replace(prefix, '').replaceAll('.', '_')
    return flat.get(name) ?? flat.get(`text_model_${name}`)
  }
}

class FluxLayers {
  readonly #matrices: Map<string, number[]>
  readonly #hidden: number
  /** kohya's names have underscores for dots */
  readonly #flat = new Map<string, string>()

  constructor(config: FluxConfig) {
    const matrices = fluxLayout(config).filter(({ role }) => role === 'matrix')
    this.#matrices = new Map(matrices.map(({ name, shape }) => [name, shape]))
    this.#hidden = config.hiddenSize
    const layers = [...this.#matrices.keys()].map((name) => name.replace(/\.weight$/, ''))
    for (const layer of [...layers, ...diffusersLayers(config)]) this.#flat.set(layer.replaceAll('.', '_'), layer)
  }

  find = (layer: string): LoraTarget | undefined => {
    const [, flat] = /^(?:lora_unet|lora_transformer|lycoris)_(.*)$/.exec(layer) ?? []
    if (flat !== undefined) return this.#named(this.#flat.get(flat) ?? '')
    return this.#named(withoutPrefix(layer))
  }

  #named(layer: string): LoraTarget | undefined {
    const name = `${layer}.weight`
    const rule = FLUX_NAMES.renames.find(([from]) => from.test(name))
    const [from, to, how] = rule ?? []
    const weight = from === undefined ? name : name.replace(from, to!)
    const shape = this.#matrices.get(weight)
    if (!shape || how === 'halves swapped') return undefined
    const [rows, input] = shape as [number, number]
    if (typeof how !== 'object' || !('part' in how)) return { weight, first: 0, rows, input }
    // query, key and value have as many rows as the model is wide; the MLP takes what is left
    const first = how.part * this.#hidden
    return { weight, first, rows: how.part === 3 ? rows - first : this.#hidden, input }
  }
}

/** diffusers' names of all layers. */
function diffusersLayers({ depth, depthSingleBlocks }: FluxConfig): string[] {
  const attention = ['to_q', 'to_k', 'to_v']
  const double = [...attention, 'add_q_proj', 'add_k_proj', 'add_v_proj', 'to_out.0', 'to_add_out'].map((name) => `attn.${name}`)
  const around = ['norm1.linear', 'norm1_context.linear', 'ff.net.0.proj', 'ff.net.2', 'ff_context.net.0.proj', 'ff_context.net.2']
  const single = [...attention.map((name) => `attn.${name}`), 'proj_mlp', 'proj_out', 'norm.linear']
  const each = (count: number, block: string, names: string[]) => Array.from({ length: count }, (_, i) => names.map((name) => `${block}.${i}.${name}`)).flat()
  const outside = ['x_embedder', 'context_embedder', 'proj_out', 'norm_out.linear']
  return [...each(depth, 'transformer_blocks', [...double, ...around]), ...each(depthSingleBlocks, 'single_transformer_blocks', single), ...outside]
}
