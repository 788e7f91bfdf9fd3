import { rows } from '../array-checks.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import type { ReduxConfig } from './layout.js'

/**
 * The projector of FLUX.1 Redux: black-forest-labs/flux, `src/flux/modules/image_embedders.py` (`ReduxImageEncoder`).
 */
export class ReduxProjector extends LoadedNetwork<ReduxConfig> {
  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<ReduxConfig>, options: NetworkOptions = {}): Promise<ReduxProjector> {
    const file = await openNetworkFile('redux', source)
    return new ReduxProjector(file, await LoadedNetwork.start(file, options))
  }

  /** Bytes that projecting this many states takes in addition to the weights. Only the file's header is read. */
  static async activationBytes(
    source: NetworkSource<ReduxConfig>,
    states: number,
    options: NetworkOptions = {},
  ): Promise<number> {
    return LoadedNetwork.measure(await openNetworkFile('redux', source), options, 'project', [states])
  }

  /**
   * @param states [n, reduxDim], as `SiglipVisionEncoder.encode` returns them
   * @returns [n, txtInFeatures]: tokens that follow the text in `FluxTransformer.predict`
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's
   *   reason when aborted
   */
  async project(states: Float32Array, { signal }: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    const [tokens] = await this.run('project', [rows('states', states, this.config.reduxDim)], [states], signal)
    return tokens!
  }
}
