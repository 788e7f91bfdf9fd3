import { LoadedNetwork } from '../network.js'
import { networkDefinition } from '../registry.js'
import { checkLoras, loraTables, nothingBelongs, type LoraOptions } from './assignment.js'
import { openLora } from './lora-file.js'

/** A network that LoRAs can add to. */
export abstract class AdaptedNetwork<C extends object> extends LoadedNetwork<C> {
  /** channels of image tokens that LoRAs read; 0 where they need no more than the model */
  protected widened = 0

  /**
   * Adds LoRAs to the weights from now on, in place of those before; an empty list takes them away. They are computed beside the weights, which
   * stay as they are, so it takes milliseconds.
   *
   * @returns for each LoRA the names in its file that belong to no layer of this network, such as those of another one
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE; FLUX_UNSUPPORTED when nothing in a file belongs here; FLUX_BAD_OPTION, FLUX_BUSY, FLUX_CLOSED
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
    return opened.map(({ lora }) => lora.left)
  }
}
