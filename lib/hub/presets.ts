import type { Family } from '../families/family.js'
import { families } from '../families/registry.js'

/**
 * If a repository has several quantisations and the reference names none, the first of these types that exists is used.
 */
export const USUAL_TYPES = ['Q4_K_S', 'Q4_K_M', 'Q4_0']

/** The names of the models with known locations on the hub. */
export function presetNames(): string[] {
  return families().flatMap(({ presets }) => Object.keys(presets.models))
}

/**
 * The family of a preset and the reference that it represents: `flux.1-dev` or `flux.1-dev:Q8_0`. Returns undefined if
 * `text` is not a preset.
 */
export function findPreset(text: string): { family: Family; reference: string } | undefined {
  const [name = '', which, ...more] = text.split(':')
  const key = name.toLowerCase()
  const family = families().find(({ presets }) => Object.hasOwn(presets.models, key))
  if (!family || more.length > 0) return undefined
  return { family, reference: family.presets.models[key]! + (which === undefined ? '' : `:${which}`) }
}

export function presetReference(text: string): string | undefined {
  return findPreset(text)?.reference
}
