import type { Family } from '../families/family.js'
import { families } from '../families/registry.js'

/**
 * If a repository has several quantisations and the reference names none, the first of these types that exists is used.
 */
export const USUAL_TYPES = ['Q4_K_S', 'Q4_K_M', 'Q4_0']

export interface Preset {
  family: Family
  reference: string
  /** whether it is one file, which makes no model */
  isFile: boolean
  /** presets that a file does not work without, by component */
  needs: Record<string, string>
}

/** The names of the models and files with known locations on the hub. */
export function presetNames(some: readonly Family[] = families()): string[] {
  const names = (kind: 'models' | 'files') => some.flatMap(({ presets }) => Object.keys(presets[kind]))
  return [...names('models'), ...names('files')]
}

/**
 * The preset that a text names: `flux.1-dev`, `flux.1-dev:Q8_0`, or the name of a file. Returns undefined if `text` is
 * not a preset.
 */
export function findPreset(text: string): Preset | undefined {
  const [name = '', which, ...more] = text.split(':')
  const key = name.toLowerCase()
  if (more.length > 0) return undefined
  for (const family of families()) {
    const { models, files, needs } = family.presets
    if (Object.hasOwn(models, key)) {
      const reference = models[key]! + (which === undefined ? '' : `:${which}`)
      return { family, reference, isFile: false, needs: {} }
    }
    if (which === undefined && Object.hasOwn(files, key))
      return { family, reference: files[key]!, isFile: true, needs: needs[key] ?? {} }
  }
  return undefined
}

export function presetReference(text: string): string | undefined {
  return findPreset(text)?.reference
}
