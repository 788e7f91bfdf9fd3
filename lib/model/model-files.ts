import { allComponents, defaultFamily, families, familiesWith, type ModelFiles } from '../families/registry.js'
import { requiredComponents, type Family } from '../families/family.js'
import type { NetworkKind } from '../networks/registry.js'
import { requireOptions, requirePath } from '../options/checks.js'

/** The name of a component that every model has. */
export type RequiredComponent = Exclude<keyof ModelFiles, 'tokenizers' | 'previewDecoder'>

/** Paths, or other values for each component and tokenizer, by component name. */
export interface ModelPlaces<Place = string> {
  components: Record<string, Place>
  tokenizers: Record<string, Place>
}

/** Only the places that are set. */
export function placesOf({ tokenizers = {}, ...components }: ModelFiles): ModelPlaces {
  const given = (paths: object) => Object.entries(paths).filter(([, path]) => path !== undefined)
  return { components: Object.fromEntries(given(components)), tokenizers: Object.fromEntries(given(tokenizers)) }
}

export function filesAt({ components, tokenizers }: ModelPlaces): ModelFiles {
  return { ...components, ...(Object.keys(tokenizers).length > 0 ? { tokenizers } : {}) } as unknown as ModelFiles
}

/** The component names in `ModelFiles`. `tokenizers` is a separate field. */
export function componentNames(): string[] {
  return Object.keys(allComponents())
}

/** The components that a model of some family requires, and the kind of network of each. */
export function requiredKinds(): Record<string, NetworkKind> {
  const required = Object.entries(allComponents()).filter(([, component]) => component.required)
  return Object.fromEntries(required.map(([name, { kind }]) => [name, kind]))
}

/**
 * @returns the families that a model with these files may belong to
 * @throws {FluxError} FLUX_BAD_OPTION, naming the field that is missing or has the wrong type
 */
export function checkModelFiles(files: ModelFiles): readonly Family[] {
  const all = allComponents()
  const encoders = Object.keys(all).filter((name) => all[name]!.tokenizer)
  requireOptions('tokenizers', files.tokenizers === undefined ? {} : files.tokenizers, encoders)
  const { components, tokenizers } = placesOf(files)
  const possible = familiesWith(Object.keys(components))
  const needed = requiredComponents(possible[0] ?? closestFamily(Object.keys(components)))
  for (const name of needed)
    requirePath(name, components[name], `the path of its file. A model needs ${needed.join(', ')}`)
  for (const [name, path] of Object.entries(components))
    requirePath(name, path, 'the path of its file, or leave it out')
  for (const [name, path] of Object.entries(tokenizers))
    requirePath(`tokenizers.${name}`, path, 'the path of its file or folder, or leave it out')
  return possible
}

/** The family with the fewest missing components, for messages. */
export function closestFamily(given: readonly string[]): Family {
  const missing = (family: Family) => requiredComponents(family).filter((name) => !given.includes(name)).length
  return families().reduce((best, family) => (missing(family) < missing(best) ? family : best), defaultFamily())
}
