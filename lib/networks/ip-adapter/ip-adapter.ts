import { exactly } from '../array-checks.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import type { IpAdapterConfig } from './layout.js'

/**
 * The projection of XLabs' IP-Adapter by itself. {@link FluxTransformer.attach} attaches the whole adapter to a
 * transformer. XLabs-AI/x-flux, `src/flux/xflux_pipeline.py` (`ImageProjModel`).
 */
export class IpAdapter extends LoadedNetwork<IpAdapterConfig> {
  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<IpAdapterConfig>, options: NetworkOptions = {}): Promise<IpAdapter> {
    const file = await openNetworkFile('ip-adapter', source)
    return new IpAdapter(file, await LoadedNetwork.start(file, options))
  }

  /**
   * The tokens that the double blocks attend to.
   *
   * @param embeds CLIP's embedding of an image [clipEmbeddingsDim]
   * @returns [numTokens, contextDim]
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's
   *   reason when aborted
   */
  async project(embeds: Float32Array, { signal }: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    exactly('embeds', embeds, this.config.clipEmbeddingsDim)
    const [tokens] = await this.run('project', [], [embeds], signal)
    return tokens!
  }
}
