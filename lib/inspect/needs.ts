import { denoiserOf, type Variant } from '../families/family.js'
import { families, familyOf } from '../families/registry.js'
import type { NetworkFile } from '../networks/network-file.js'

/** What a model needs in addition to a file with one network of this kind, in words. */
export function needsOf(kind: string): string[] {
  const family = families().find(({ components }) => Object.values(components).some((part) => part.kind === kind))
  if (!family) return []
  const others = Object.entries(family.components).filter(([, part]) => part.required && part.kind !== kind)
  const titles = others.map(([, { title }]) => title)
  const flags = others.map(([name]) => `--${name}`).join(', ')
  return [`${titles.slice(0, -1).join(', ')} and ${titles.at(-1)} next to it (${flags}, or all in one folder)`]
}

const READS: Record<NonNullable<Variant['reads']>, string[]> = {
  control: ['an edge or depth image to follow, for each image (--control-image)'],
  fill: ['an image, and a mask or pixels to add at its sides, for each image (--image, --mask, --extend)'],
  references: [],
}

/** The images that a denoiser needs to draw, in words. */
export function imagesFor(network: NetworkFile<object>): string[] {
  const family = familyOf([network])
  if (family.components[denoiserOf(family)]!.kind !== network.kind) return []
  const { reads } = family.variant({ [denoiserOf(family)]: network } as never)
  return reads ? READS[reads] : []
}
