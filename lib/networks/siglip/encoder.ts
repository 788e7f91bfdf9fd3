import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import { patchesOf } from '../vision.js'
import type { SiglipConfig } from './layout.js'

/** SigLIP's vision tower: huggingface/transformers, `modeling_siglip.py` (`SiglipVisionModel`). */
export class SiglipVisionEncoder extends LoadedNetwork<SiglipConfig> {
  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<SiglipConfig>, options: NetworkOptions = {}): Promise<SiglipVisionEncoder> {
    const file = await openNetworkFile('siglip', source)
    return new SiglipVisionEncoder(file, await LoadedNetwork.start(file, options))
  }

  /** Bytes that encoding an image takes in addition to the weights. Only the file's header is read. */
  static async activationBytes(source: NetworkSource<SiglipConfig>, options: NetworkOptions = {}): Promise<number> {
    return LoadedNetwork.measure(await openNetworkFile('siglip', source), options, 'encode', [])
  }

  /**
   * @param pixels [3, imageSize, imageSize] in -1 to 1, as `siglipPixels` makes them
   * @returns [patches, hiddenSize]: the states after the final norm, row by row; 729 for an image of 384 pixels
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's
   *   reason when aborted
   */
  async encode(pixels: Float32Array, { signal }: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    const [states] = await this.run('encode', [], [patchesOf(pixels, this.config)], signal)
    return states!
  }
}
