import type { NetworkKind } from '../networks/registry.js'

/** The parts of a model by the names that its users give them, and the network that each is. */
export const KIND_OF_PART = {
  transformer: 'flux',
  t5: 't5',
  clip: 'clip',
  vae: 'autoencoder',
} as const satisfies Record<string, NetworkKind>

export type Part = keyof typeof KIND_OF_PART

export const PARTS = Object.keys(KIND_OF_PART) as Part[]

export const PART_OF_KIND = Object.fromEntries(PARTS.map((part) => [KIND_OF_PART[part], part])) as Partial<
  Record<NetworkKind, Part>
>
