import { stat } from 'node:fs/promises'
import type { LoraOptions, LoraPlan } from './assignment.js'

/** What the networks of a model get of LoRAs, and which files in which state that is of. */
export interface VersionedPlan extends LoraPlan {
  version: string
}

export interface Adaptable {
  adapt(loras: readonly LoraOptions[]): Promise<unknown>
}

/** Tells LoRAs apart by path, strength, and size and time of their files: a trainer may write a file anew while the pipeline is open. */
export async function versionOf(loras: readonly LoraOptions[]): Promise<string> {
  const files = await Promise.all(loras.map(({ path }) => stat(path, { bigint: true }).catch(() => undefined)))
  return JSON.stringify([loras, files.map((file) => file && [String(file.mtimeNs), String(file.size)])])
}

/** what networks were given last */
const given = new WeakMap<Adaptable, readonly LoraOptions[]>()

/** Gives a network its LoRAs of a plan, unless it has these already. */
export async function adaptTo(network: Adaptable, loras: readonly LoraOptions[]): Promise<void> {
  const before = given.get(network) ?? []
  if (loras === before || (loras.length === 0 && before.length === 0)) return
  await network.adapt(loras)
  given.set(network, loras)
}
