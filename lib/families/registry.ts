import type { NetworkFile } from '../networks/network-file.js'
import { denoiserOf, requiredComponents, type Components, type Family } from './family.js'
import { flux1 } from './flux1/family.js'

/** The paths of a model's components. Each family documents its own in its folder. */
export type { Flux1Files as ModelFiles } from './flux1/family.js'
/** The denoiser's configuration. */
export type { FluxConfig as DenoiserConfig } from '../networks/flux/layout.js'

/** Families are checked in this order. The last one is the default for a model that no family recognises. */
const FAMILIES: Family[] = [flux1]

/**
 * Adds a family. It is checked before the families registered so far, so it can take special cases of their networks.
 */
export function registerFamily<C extends Components>(family: Family<C>): void {
  FAMILIES.unshift(family as unknown as Family)
}

export function families(): readonly Family[] {
  return FAMILIES
}

/** The family that is assumed before a model's files are read. */
export function defaultFamily(): Family {
  return FAMILIES.at(-1)!
}

/** The components of all families by name, the default family's first. */
export function allComponents(): Components {
  return Object.assign({}, defaultFamily().components, ...FAMILIES.map(({ components }) => components)) as Components
}

/** The families that have all of these components and require no others. */
export function familiesWith(names: readonly string[]): Family[] {
  return FAMILIES.filter(
    (family) =>
      names.every((name) => Object.hasOwn(family.components, name)) &&
      requiredComponents(family).every((name) => names.includes(name)),
  )
}

/** Finds the family of a denoiser among the candidates. Returns the last candidate if none recognises it. */
export function familyOf(denoisers: readonly NetworkFile<unknown>[], among: readonly Family[] = FAMILIES): Family {
  const knows = (family: Family) =>
    denoisers.some((file) => file.kind === family.components[denoiserOf(family)]!.kind && family.recognise(file))
  return among.find(knows) ?? among.at(-1)!
}

/** `{ transformer, t5, clip, vae }`, for messages. */
export function filesInWords(family: Family = defaultFamily()): string {
  return `{ ${requiredComponents(family).join(', ')} }`
}
