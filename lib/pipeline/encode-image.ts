import { FluxError } from '../errors.js'
import type { EncodeImage } from '../families/image-inputs.js'
import type { LatentFormat } from '../families/latent-format.js'
import { requireFinite } from '../networks/finite.js'
import { encodeWithin, type Encode } from './tiles.js'

/** An autoencoder that encodes. */
export interface Encoder {
  path: string
  encode(
    image: Float32Array,
    height: number,
    width: number,
    options: { signal: AbortSignal },
  ): Promise<{ mean: Float32Array }>
}

/** Returns a function that encodes images as the sampler needs them: the mean, scaled and shifted. */
export function imageEncoder(
  encoder: Encoder,
  { channels, reduction, scale, shift }: LatentFormat,
  signal: AbortSignal,
): EncodeImage {
  const encode: Encode = async (part, height, width) => (await encoder.encode(part, height, width, { signal })).mean
  return async (image, height, width) => {
    const mean = await encodeWithin(encode, image, height, width, { reduction, channels })
    requireFinite(mean, 'the output of the encoder', encoder.path)
    return mean.map((value) => scale * (value - shift))
  }
}

/** @throws {FluxError} FLUX_UNSUPPORTED if the autoencoder's file has no encoder */
export function requireEncoder({ path }: { path: string }, config: object): void {
  if ('hasEncoder' in config && !config.hasEncoder)
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${path} holds no encoder, which images as input need; use the complete autoencoder`,
    )
}
