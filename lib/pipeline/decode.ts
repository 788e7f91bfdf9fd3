import type { LatentFormat } from '../families/latent-format.js'
import { inBackground } from '../images/background.js'
import { latentPreview, type LatentPreview } from '../families/latent-preview.js'
import { requireFinite } from '../networks/finite.js'
import type { PreviewOptions } from './generate-options.js'
import { decodeWithin, type Decode } from './tiles.js'

/** An autoencoder, or a small one for previews. */
export interface Decoder {
  path: string
  decode(latent: Float32Array, rows: number, columns: number, options: { signal: AbortSignal }): Promise<Float32Array>
}

/** A state of the sampler, and what is needed to show it. */
export interface Shown {
  state: Float32Array
  latent: LatentFormat
  rows: number
  columns: number
  signal: AbortSignal
}

/** @returns RGB [height, width, 3], and the side of the tiles if the image was decoded in tiles */
export async function decodeState(
  decoder: Decoder,
  { state, latent: { reduction, toLatent }, rows, columns, signal }: Shown,
): Promise<{ rgb: Uint8Array<ArrayBuffer>; tile?: number }> {
  const decode: Decode = (latents, height, width) => decoder.decode(latents, height, width, { signal })
  const latents = toLatent(state, rows, columns)
  const { image, ...tiling } = await decodeWithin(decode, latents, rows, columns, reduction)
  requireFinite(image, 'the output of the decoder', decoder.path)
  return { rgb: await rgbOf(image, reduction * rows, reduction * columns), ...tiling }
}

/** @param decoderFor returns the decoder for a method other than 'linear' */
export async function previewOf(
  method: PreviewOptions['method'],
  shown: Shown,
  decoderFor: (stage: 'preview' | 'decode') => Promise<Decoder>,
): Promise<LatentPreview> {
  const { state, latent, rows, columns, signal } = shown
  const { reduction, rgbFactors, toLatent } = latent
  if (method === 'linear') return latentPreview(toLatent(state, rows, columns), rows, columns, 1, rgbFactors)
  const [height, width] = [reduction * rows, reduction * columns]
  if (method === 'autoencoder') {
    const { rgb } = await decodeState(await decoderFor('decode'), shown)
    return { data: Buffer.from(rgb.buffer), width, height }
  }
  const decoder = await decoderFor('preview')
  const image = await decoder.decode(toLatent(state, rows, columns), rows, columns, { signal })
  requireFinite(image, 'the output of the preview decoder', decoder.path)
  return { data: Buffer.from((await rgbOf(image, height, width)).buffer), width, height }
}

function rgbOf(image: Float32Array, height: number, width: number): Promise<Uint8Array<ArrayBuffer>> {
  return inBackground('toBytes', [image, width, height], [image.buffer as ArrayBuffer])
}
