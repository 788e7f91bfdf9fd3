import { latentMask } from '../../images/latent-mask.js'
import type { ControlMode } from '../../networks/controlnet/modes.js'
import { descriptionOf } from '../../networks/controlnet/describe.js'
import type { ControlNetConfig } from '../../networks/controlnet/layout.js'
import type { ControlInput, ImagePromptInput } from '../../networks/flux/attachments.js'
import type { NetworkFile } from '../../networks/network-file.js'
import type { ReduxImage } from '../../networks/redux/append.js'
import { clipPixels, siglipPixels } from '../../networks/vision-pixels.js'
import type { ClipVisionEncoder, ReduxProjector, SiglipVisionEncoder } from '../../nn.js'
import {
  toPlanes,
  type ImageEncoders,
  type ImageInputs,
  type Pixels,
  type ReferencePlacement,
} from '../image-inputs.js'
import { FLUX_LATENT } from './latent.js'
import { imageIds, packLatents } from './tokens.js'

const { channels, reduction, sizeMultiple } = FLUX_LATENT
/** pixels along each side of a token */
const TOKEN_SIDE = sizeMultiple
const TOKEN_CHANNELS = channels * (sizeMultiple / reduction) ** 2

/** The encoded images of a request. */
export interface FluxImages {
  /** [L, 64 or 320], next to the channels of each image token: a control image's latent, or Fill's image and mask */
  channels?: Float32Array
  /** [R, 64], after the image tokens in the sequence: the reference images' latents */
  references?: Float32Array
  /** [R, 3] positions of the reference tokens */
  referenceIds?: Float32Array
  /** as `FluxTransformer.predict` takes them, and the shares of the steps between which they act */
  controls?: (ControlInput & { start: number; end: number })[]
  imagePrompts?: ImagePromptInput[]
  redux?: ReduxImage[]
}

/**
 * Encodes the images. Source: black-forest-labs/flux `src/flux/sampling.py` (`prepare_control`, `_fill`, `_kontext`).
 *
 * @param size with the files of the ControlNets, in the order of the inputs
 */
export async function encodeImages(
  inputs: ImageInputs,
  { width, height, attached = [] }: { width: number; height: number; attached?: readonly NetworkFile<object>[] },
  { vae, run }: ImageEncoders,
): Promise<FluxImages> {
  const { fill, control, references = [], placement = 'offset', controlNets = [], redux = [], ipAdapters = [] } = inputs
  const encoded = async ({ width, height }: Pixels, planes: Float32Array): Promise<Float32Array> =>
    packLatents(await vae(planes, height, width), height / reduction, width / reduction)
  const images: FluxImages = {}
  if (control) images.channels = await encoded(control, toPlanes(control))
  if (fill) {
    const { image, mask } = fill
    // the part that is drawn anew is grey, in proportion to the mask
    const planes = toPlanes(image).map((value, i) => value * (1 - mask[i % mask.length]! / 255))
    const tokens = await encoded(image, planes)
    images.channels = joinChannels(tokens, packMask(mask, width, height), tokens.length / TOKEN_CHANNELS)
  }
  if (references.length > 0) {
    const tokens: Float32Array[] = []
    for (const reference of references) tokens.push(await encoded(reference, toPlanes(reference)))
    const inTokens = (size: { width: number; height: number }) => ({
      rows: size.height / TOKEN_SIDE,
      columns: size.width / TOKEN_SIDE,
    })
    images.references = concatenated(tokens)
    images.referenceIds = referenceIds(references.map(inTokens), inTokens({ width, height }), placement)
  }
  for (const [attachment, { image, mode, scale, start, end }] of controlNets.entries()) {
    const { input } = descriptionOf(attached[attachment] as NetworkFile<ControlNetConfig>)
    const planes = toPlanes(image)
    const read =
      input === 'rgb'
        ? { image: planes, width, height }
        : { image: input === 'latents' ? await encoded(image, planes) : await withHole(inputs.mask!, image, encoded) }
    const named = mode === undefined ? {} : { mode: mode as ControlMode | number }
    ;(images.controls ??= []).push({ attachment, ...read, ...named, scale, start, end })
  }
  if (redux.length > 0) {
    const states = await run('siglip', redux, (tower: SiglipVisionEncoder, { image }, options) =>
      tower.encode(siglipPixels(image, tower.config.imageSize), options),
    )
    const tokens = await run('redux', states, (projector: ReduxProjector, states, options) =>
      projector.project(states, options),
    )
    images.redux = redux.map(({ strength, strengthType }, i) => ({ tokens: tokens[i]!, strength, strengthType }))
  }
  if (ipAdapters.length > 0) {
    const embeds = await run('clipVision', ipAdapters, (tower: ClipVisionEncoder, { image }, options) =>
      tower.encode(clipPixels(image, tower.config.imageSize), options),
    )
    images.imagePrompts = ipAdapters.map(({ scale }, i) => ({
      attachment: controlNets.length + i,
      embeds: embeds[i]!,
      scale,
    }))
  }
  return images
}

/** For a ControlNet that repaints: black where the image is drawn anew, and four mask values for each token, 1 = keep. */
async function withHole(
  mask: Uint8Array,
  image: Pixels,
  encoded: (image: Pixels, planes: Float32Array) => Promise<Float32Array>,
): Promise<Float32Array> {
  const { width, height } = image
  const planes = toPlanes(image).map((value, i) => (mask[i % mask.length]! >= 128 ? -1 : value))
  const keep = latentMask({ data: mask, width, height }, 'blend').map((value) => 1 - value)
  const tokens = await encoded(image, planes)
  const masks = packLatents(keep, height / reduction, width / reduction)
  return joinChannels(tokens, masks, tokens.length / TOKEN_CHANNELS)
}

/**
 * Fill's 256 channels for the mask of each token [L, 256]: pixel (py, px) of the 8 x 8 block of latent pixel (ph, pw) is
 * channel ((py * 8 + px) * 2 + ph) * 2 + pw, from 0 to 1.
 */
export function packMask(mask: Uint8Array, width: number, height: number): Float32Array {
  const [columns, channels] = [width / TOKEN_SIDE, TOKEN_SIDE * TOKEN_SIDE]
  const packed = new Float32Array(mask.length)
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const token = Math.floor(y / TOKEN_SIDE) * columns + Math.floor(x / TOKEN_SIDE)
      const [ph, pw] = [Math.floor(y / reduction) % 2, Math.floor(x / reduction) % 2]
      const channel = (((y % reduction) * reduction + (x % reduction)) * 2 + ph) * 2 + pw
      packed[token * channels + channel] = mask[i]! / 255
    }
  }
  return packed
}

/**
 * Positions of reference tokens [R, 3], for references of these sizes in tokens. The image itself has `rows` and
 * `columns`. Offsets are computed in latent pixels, two for each token, and rounded up. Source: ComfyUI, see
 * {@link ReferencePlacement}.
 */
export function referenceIds(
  references: readonly { rows: number; columns: number }[],
  { rows, columns }: { rows: number; columns: number },
  placement: ReferencePlacement,
): Float32Array {
  // the extent used so far, in tokens
  let [height, width] = placement === 'uxo' ? [rows, columns] : [0, 0]
  const all = references.map(({ rows, columns }, i) => {
    const ids = imageIds(rows, columns)
    let [index, down, right] = [1, 0, 0]
    if (placement === 'index') index = i + 1
    else if (placement === 'uxo') [index, down, right] = [0, height, width]
    else if (rows + height > columns + width) right = width
    else down = height
    height = Math.max(height, rows + down)
    width = Math.max(width, columns + right)
    for (let k = 0; k < ids.length; k += 3) {
      ids[k] = index
      ids[k + 1]! += down
      ids[k + 2]! += right
    }
    return ids
  })
  return concatenated(all)
}

/** Puts the rows of `more` after the rows of `tokens`: [L, a] and [L, b] to [L, a + b]. `count`: L. */
export function joinChannels(tokens: Float32Array, more: Float32Array, count: number): Float32Array {
  const [a, b] = [tokens.length / count, more.length / count]
  const joined = new Float32Array(tokens.length + more.length)
  for (let i = 0; i < count; i++) {
    joined.set(tokens.subarray(i * a, (i + 1) * a), i * (a + b))
    joined.set(more.subarray(i * b, (i + 1) * b), i * (a + b) + a)
  }
  return joined
}

export function concatenated(parts: readonly Float32Array[]): Float32Array {
  const joined = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}
