import { stat } from 'node:fs/promises'
import type { LoraOptions, LoraPlan } from './assignment.js'

/** The LoRAs for the networks of a model, and the versions of their files. */
export interface VersionedPlan extends LoraPlan {
  version: string
}

export interface Adaptable {
  adapt(loras: readonly LoraOptions[]): Promise<unknown>
}

/**
 * A version of LoRAs, from their paths and strengths and their files' sizes and times. A trainer may rewrite a file
 * while the pipeline is open.
 */
export async function versionOf(loras: readonly LoraOptions[]): Promise<string> {
  const files = await Promise.all(loras.map(({ path }) => stat(path, { bigint: true }).catch(() => undefined)))
  return JSON.stringify([loras, files.map((file) => file && [String(file.mtimeNs), String(file.size)])])
}

/** the LoRAs that each network received last */
const given = new WeakMap<Adaptable, readonly LoraOptions[]>()

/** Sets a network's LoRAs of a plan, unless they are already set. */
export async function adaptTo(network: Adaptable, loras: readonly LoraOptions[]): Promise<void> {
  const before = given.get(network) ?? []
  if (loras === before || (loras.length === 0 && before.length === 0)) return
  await network.adapt(loras)
  given.set(network, loras)
}
