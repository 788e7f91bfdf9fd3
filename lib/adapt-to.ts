import type { LoraOptions } from './models/lora.js'

interface Adaptable {
  adapt(loras: readonly LoraOptions[]): Promise<unknown>
}

/** what networks were given last */
const given = new WeakMap<Adaptable, string>()

/** Gives a network these LoRAs, unless it has them already. */
export async function adaptTo(network: Adaptable, loras: readonly LoraOptions[]): Promise<void> {
  const wanted = JSON.stringify(loras)
  if (wanted === (given.get(network) ?? '[]')) return
  await network.adapt(loras)
  given.set(network, wanted)
}
