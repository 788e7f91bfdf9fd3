import { exactly, sides } from '../array-checks.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import type { TinyDecoderConfig } from './layout.js'

/**
 * TAEF1's decoder. It makes full-size previews in a hundredth of the autoencoder's time. github.com/madebyollin/taesd,
 * `taesd.py`.
 */
export class TinyDecoder extends LoadedNetwork<TinyDecoderConfig> {
  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<TinyDecoderConfig>, options: NetworkOptions = {}): Promise<TinyDecoder> {
    const file = await openNetworkFile('tiny-decoder', source)
    return new TinyDecoder(file, await LoadedNetwork.start(file, options))
  }

  /**
   * @param latent [zChannels, height, width] as the sampler returns it
   * @returns [3, 8 height, 8 width], approximately in -1 to 1
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's
   *   reason when aborted
   */
  async decode(
    latent: Float32Array,
    height: number,
    width: number,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Float32Array> {
    sides(height, width, 1)
    exactly('latent', latent, this.config.zChannels * height * width)
    const [image] = await this.run('decode', [height, width], [latent], signal)
    return image!
  }
}
