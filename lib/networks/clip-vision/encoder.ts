import { openNetworkFile, type NetworkSource } from '../network-file.js'
import { LoadedNetwork, type NetworkOptions } from '../network.js'
import { patchesOf } from '../vision.js'
import type { ClipVisionConfig } from './layout.js'

/**
 * CLIP's vision tower with its projection: huggingface/transformers, `modeling_clip.py`
 * (`CLIPVisionModelWithProjection`).
 */
export class ClipVisionEncoder extends LoadedNetwork<ClipVisionConfig> {
  /**
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY,
   *   FLUX_DEVICE
   */
  static async load(source: NetworkSource<ClipVisionConfig>, options: NetworkOptions = {}): Promise<ClipVisionEncoder> {
    const file = await openNetworkFile('clip-vision', source)
    return new ClipVisionEncoder(file, await LoadedNetwork.start(file, options))
  }

  /** Bytes that encoding an image takes in addition to the weights. Only the file's header is read. */
  static async activationBytes(source: NetworkSource<ClipVisionConfig>, options: NetworkOptions = {}): Promise<number> {
    return LoadedNetwork.measure(await openNetworkFile('clip-vision', source), options, 'encode', [])
  }

  /**
   * @param pixels [3, imageSize, imageSize], as `clipPixels` makes them
   * @returns [projectionDim]: the projected state of the class token
   * @throws {FluxError} FLUX_BAD_SHAPE, FLUX_BAD_OPTION, FLUX_OUT_OF_MEMORY, FLUX_BUSY, FLUX_CLOSED; the signal's
   *   reason when aborted
   */
  async encode(pixels: Float32Array, { signal }: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    const [embedding] = await this.run('encode', [], [patchesOf(pixels, this.config)], signal)
    return embedding!
  }
}
