import type { NetworkFile } from '../networks/network-file.js'
import { denoiserOf, requiredComponents, type Components, type Family } from './family.js'
import { flux1 } from './flux1/family.js'

/** Where the components of a model are: of each family, what its folder says. */
export type { Flux1Files as ModelFiles } from './flux1/family.js'
/** The denoiser's configuration. */
export type { FluxConfig as DenoiserConfig } from '../networks/flux/layout.js'

/** The first is asked first, the last is the one that a model belongs to where nothing tells. */
const FAMILIES: Family[] = [flux1]

/** Adds a family. It is asked before those that are there already, so it may take special cases of their networks. */
export function registerFamily<C extends Components>(family: Family<C>): void {
  FAMILIES.unshift(family as unknown as Family)
}

export function families(): readonly Family[] {
  return FAMILIES
}

/** What is assumed of a model before its files are seen. */
export function defaultFamily(): Family {
  return FAMILIES.at(-1)!
}

/** Names of components by the families that have them, the default family's first. */
export function allComponents(): Components {
  return Object.assign({}, defaultFamily().components, ...FAMILIES.map(({ components }) => components)) as Components
}

/** The families whose components have these names, with none missing. */
export function familiesWith(names: readonly string[]): Family[] {
  return FAMILIES.filter(
    (family) =>
      names.every((name) => Object.hasOwn(family.components, name)) &&
      requiredComponents(family).every((name) => names.includes(name)),
  )
}

/** The family of a denoiser among those that may have it; the last of them where none knows it. */
export function familyOf(denoisers: readonly NetworkFile<unknown>[], among: readonly Family[] = FAMILIES): Family {
  const knows = (family: Family) =>
    denoisers.some((file) => file.kind === family.components[denoiserOf(family)]!.kind && family.recognise(file))
  return among.find(knows) ?? among.at(-1)!
}

/** `{ transformer, t5, clip, vae }`, for messages. */
export function filesInWords(family: Family = defaultFamily()): string {
  return `{ ${requiredComponents(family).join(', ')} }`
}
