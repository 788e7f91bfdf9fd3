import { LoadedNetwork } from '../network.js'
import { networkDefinition } from '../registry.js'
import { checkLoras, loraTables, nothingBelongs, type LoraOptions } from './assignment.js'
import { openLora } from './lora-file.js'

/** A network that LoRAs can change. */
export abstract class AdaptedNetwork<C extends object> extends LoadedNetwork<C> {
  /** the number of image token channels that LoRAs read; 0 if the model's own channels are enough */
  protected widened = 0

  /**
   * Sets the LoRAs that are added to the weights, replacing the previous ones. An empty list removes them. They are
   * computed separately and the weights do not change, so the call takes milliseconds.
   *
   * @returns for each LoRA, the names in its file that match no layer of this network, such as those of another network
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE; FLUX_UNSUPPORTED if nothing in a file matches this network;
   *   FLUX_BAD_OPTION, FLUX_BUSY, FLUX_CLOSED
   */
  async adapt(loras: readonly LoraOptions[]): Promise<string[][]> {
    checkLoras(loras)
    const { kind, config } = this
    const opened = await Promise.all(
      loras.map(async ({ path, scale = 1 }) => ({ lora: await openLora(path, { kind, config }), scale })),
    )
    const { label } = networkDefinition(kind)
    for (const { lora } of opened) if (lora.layers.length === 0) throw nothingBelongs(lora, label)
    const acting = opened.filter(({ scale }) => scale !== 0)
    await this.add(...loraTables(acting))
    this.widened = Math.max(0, ...acting.map(({ lora }) => lora.channels ?? 0))
    return opened.map(({ lora }) => lora.unmatched)
  }
}
