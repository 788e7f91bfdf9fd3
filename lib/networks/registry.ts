import { FluxError } from '../errors.js'
import { AUTOENCODER } from './autoencoder/definition.js'
import { CLIP } from './clip/definition.js'
import { CLIP_VISION } from './clip-vision/definition.js'
import { CONTROLNET } from './controlnet/definition.js'
import type { NetworkDefinition } from './definition.js'
import { FLUX } from './flux/definition.js'
import { IP_ADAPTER } from './ip-adapter/definition.js'
import { REDUX } from './redux/definition.js'
import { RRDB } from './rrdb/definition.js'
import { SIGLIP } from './siglip/definition.js'
import { T5 } from './t5/definition.js'
import { TINY_DECODER } from './taesd/definition.js'

/** For a checkpoint with several networks, the first match in this list names the file. */
const BUILT_IN = [
  FLUX,
  T5,
  SIGLIP,
  CLIP,
  CLIP_VISION,
  REDUX,
  AUTOENCODER,
  TINY_DECODER,
  CONTROLNET,
  IP_ADAPTER,
  RRDB,
] as const

type BuiltIn = (typeof BUILT_IN)[number]

export type NetworkKind = BuiltIn['kind']

type BuiltInConfigs = { [D in BuiltIn as D['kind']]: D['examples'][string] }

/** The configuration of each kind. */
export interface NetworkConfigs extends BuiltInConfigs {
  [kind: string]: object
}

const networks: NetworkDefinition[] = [...BUILT_IN]

/** All kinds of networks, in the order in which files are checked for them. */
export function networkDefinitions(): readonly NetworkDefinition[] {
  return networks
}

/** @throws {FluxError} FLUX_BAD_OPTION for a kind that is not registered */
export function networkDefinition<K extends string>(kind: K): NetworkDefinition<NetworkConfigs[K]> {
  const definition = networks.find((network) => network.kind === kind)
  if (definition) return definition as NetworkDefinition<NetworkConfigs[K]>
  const kinds = networks.map((network) => network.kind).join(', ')
  throw new FluxError('FLUX_BAD_OPTION', `the kind of the network is '${kind}'; expected one of ${kinds}`)
}

/**
 * Adds a kind of network. Files of this kind can then be inspected, converted and synthesised. To run it, the native
 * side must support it too.
 *
 * @throws {FluxError} FLUX_BAD_OPTION for a kind or an example whose name is taken
 */
export function registerNetwork<C extends object>(definition: NetworkDefinition<C>): void {
  const taken = networks.flatMap(({ kind, examples }) => [kind, ...Object.keys(examples)])
  const twice = [definition.kind, ...Object.keys(definition.examples)].find((name) => taken.includes(name))
  if (twice !== undefined)
    throw new FluxError('FLUX_BAD_OPTION', `a network is called '${twice}' already; give another name`)
  networks.push(definition as NetworkDefinition)
}

/** The configurations that networks are synthesised with, by name. */
export function networkExamples(): Map<string, { definition: NetworkDefinition; config: object }> {
  return new Map(
    networks.flatMap((definition) =>
      Object.entries(definition.examples).map(([name, config]) => [name, { definition, config }] as const),
    ),
  )
}

/** A label in the middle of a sentence: `FLUX transformer` of `a FLUX transformer`. */
export const withoutArticle = (label: string): string => label.replace(/^an? /, '')
