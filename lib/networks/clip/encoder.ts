import { FluxError } from '../../errors.js'
import { tokenCount } from '../array-checks.js'
import { AdaptedNetwork } from '../lora/adapted-network.js'
import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import type { ClipConfig } from './layout.js'

/** CLIP's text encoder: huggingface/transformers, `modeling_clip.py`. */
export class ClipTextEncoder extends AdaptedNetwork<ClipConfig> {
  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<ClipConfig>, options: NetworkOptions = {}): Promise<ClipTextEncoder> {
    const file = await openNetworkFile('clip', source)
    return new ClipTextEncoder(file, await LoadedNetwork.start(file, options))
  }

  /**
   * @param tokens [n], n up to `maxPositions`; the caller pads them with the end token
   * @param eos index of the token whose state is the pooled output.
   *   @default the first occurrence of the vocabulary's last token id
   * @returns pooled [hiddenSize]; hidden [n, hiddenSize] after the final norm
   * @throws {FluxError} FLUX_BAD_SHAPE for a token outside the vocabulary, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED;
   *   the signal's reason when aborted
   */
  async encode(
    tokens: Int32Array,
    { eos, signal }: { eos?: number; signal?: AbortSignal } = {},
  ): Promise<{ pooled: Float32Array; hidden: Float32Array }> {
    const { maxPositions, vocabSize, hiddenSize } = this.config
    const n = tokenCount(tokens, maxPositions, vocabSize)
    const end = eos ?? tokens.indexOf(vocabSize - 1)
    if (!Number.isInteger(end) || end < 0 || end >= n) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `eos is ${eos ?? 'not given, and the tokens hold no end token'}; the index of the end token, 0 to ${n - 1}, is needed`,
      )
    }
    const [hidden] = await this.run('encode', [n], [tokens, Int32Array.from({ length: n }, (_, i) => i)], signal)
    return { pooled: hidden!.slice(end * hiddenSize, (end + 1) * hiddenSize), hidden: hidden! }
  }
}
