import { tokenCount } from '../array-checks.js'
import { AdaptedNetwork } from '../lora/adapted-network.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import { relativePositionBuckets } from './buckets.js'
import type { T5Config } from './layout.js'

/**
 * The encoder of T5 v1.1: huggingface/transformers, `modeling_t5.py`. It has no attention mask, so padding is not
 * masked, as in FLUX.
 */
export class T5Encoder extends AdaptedNetwork<T5Config> {
  #buckets?: Int32Array

  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<T5Config>, options: NetworkOptions = {}): Promise<T5Encoder> {
    const file = await openNetworkFile('t5', source)
    return new T5Encoder(file, await LoadedNetwork.start(file, options))
  }

  /**
   * @param tokens [n], padded by the caller
   * @returns the last hidden state [n, dModel]
   * @throws {FluxError} FLUX_BAD_SHAPE for a token outside the vocabulary, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED;
   *   the signal's reason when aborted
   */
  async encode(tokens: Int32Array, { signal }: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    const { numBuckets, maxDistance, vocabSize } = this.config
    const n = tokenCount(tokens, 4096, vocabSize)
    if (this.#buckets?.length !== n * n) this.#buckets = relativePositionBuckets(n, numBuckets, maxDistance)
    const [states] = await this.run('encode', [n], [tokens, this.#buckets], signal)
    return states!
  }
}
