import { families } from '../families/registry.js'

/** What a model needs in addition to a file with one network of this kind, in words. */
export function needsOf(kind: string): string[] {
  const family = families().find(({ components }) => Object.values(components).some((part) => part.kind === kind))
  if (!family) return []
  const others = Object.entries(family.components).filter(([, part]) => part.required && part.kind !== kind)
  const titles = others.map(([, { title }]) => title)
  const flags = others.map(([name]) => `--${name}`).join(', ')
  return [`${titles.slice(0, -1).join(', ')} and ${titles.at(-1)} next to it (${flags}, or all in one folder)`]
}
