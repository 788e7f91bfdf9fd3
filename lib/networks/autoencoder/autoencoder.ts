import { FluxError } from '../../errors.js'
import { exactly, sides } from '../array-checks.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import type { AutoencoderConfig } from './layout.js'

/** The autoencoder: black-forest-labs/flux, `src/flux/modules/autoencoder.py`. */
export class Autoencoder extends LoadedNetwork<AutoencoderConfig> {
  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<AutoencoderConfig>, options: NetworkOptions = {}): Promise<Autoencoder> {
    const file = await openNetworkFile('autoencoder', source)
    return new Autoencoder(file, await LoadedNetwork.start(file, options))
  }

  /** Bytes that decoding a latent takes in addition to the weights. Only the file's header is read. */
  static async activationBytes(
    source: NetworkSource<AutoencoderConfig>,
    height: number,
    width: number,
    options: NetworkOptions = {},
  ): Promise<number> {
    const file = await openNetworkFile('autoencoder', source)
    return LoadedNetwork.measure(file, options, 'decode', [height, width])
  }

  /**
   * Bytes that encoding an image of this size in pixels takes in addition to the weights. Only the file's header is read.
   *
   * @throws {FluxError} FLUX_UNSUPPORTED if the file has no encoder
   */
  static async encodingBytes(
    source: NetworkSource<AutoencoderConfig>,
    height: number,
    width: number,
    options: NetworkOptions = {},
  ): Promise<number> {
    const file = await openNetworkFile('autoencoder', source)
    requireEncoder(file.file.path, file.config)
    return LoadedNetwork.measure(file, options, 'encode', [height, width])
  }

  /** pixels per latent along each side: 8 in FLUX.1 */
  get reduction(): number {
    return 2 ** (this.config.chMult.length - 1)
  }

  /**
   * @param latent [zChannels, height, width] as the sampler returns it
   * @returns [3, 8 height, 8 width], approximately in -1 to 1
   * @throws {FluxError} FLUX_UNSUPPORTED if the file has no decoder, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the
   *   signal's reason when aborted
   */
  async decode(
    latent: Float32Array,
    height: number,
    width: number,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Float32Array> {
    if (!this.config.hasDecoder)
      throw new FluxError('FLUX_UNSUPPORTED', `${this.path} holds no decoder; use the complete autoencoder`)
    sides(height, width, 1)
    exactly('latent', latent, this.config.zChannels * height * width)
    const [image] = await this.run('decode', [height, width], [latent], signal)
    return image!
  }

  /**
   * @param image [3, height, width] in -1 to 1; sides are multiples of 8
   * @returns the raw moments, mean and logvar, each [zChannels, height / 8, width / 8]; they are not sampled, scaled or
   *   shifted
   * @throws {FluxError} FLUX_UNSUPPORTED if the file has no encoder, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the
   *   signal's reason when aborted
   */
  async encode(
    image: Float32Array,
    height: number,
    width: number,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<{ mean: Float32Array; logvar: Float32Array }> {
    requireEncoder(this.path, this.config)
    sides(height, width, this.reduction)
    exactly('image', image, 3 * height * width)
    const [moments] = await this.run('encode', [height, width], [image], signal)
    const half = moments!.length / 2
    return { mean: moments!.slice(0, half), logvar: moments!.slice(half) }
  }
}

function requireEncoder(path: string, { hasEncoder }: AutoencoderConfig): void {
  if (!hasEncoder) throw new FluxError('FLUX_UNSUPPORTED', `${path} holds no encoder; use the complete autoencoder`)
}
