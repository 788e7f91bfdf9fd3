import { invertMask, isEmptyMask, resizeMask, type Mask } from '../images/edit-mask.js'
import { encodeImage } from '../images/encode.js'
import { readMask } from '../images/mask.js'
import type { ServerContext } from './context.js'

interface MaskOptions {
  /** of the image that the mask belongs to */
  size: { width: number; height: number }
  /** black is drawn anew */
  invert: boolean
}

/**
 * Reads a mask as A1111 does: white is drawn anew; of a mask with transparent pixels, what is opaque. It may have another
 * size than its image. Source: AUTOMATIC1111/stable-diffusion-webui `modules/processing.py` (`create_binary_mask`,
 * `StableDiffusionProcessingImg2Img.init`).
 *
 * @returns a file of the image's size, white where it is drawn anew
 */
export async function maskFile(
  context: ServerContext,
  value: string,
  { size: { width, height }, invert }: MaskOptions,
): Promise<Buffer> {
  const bytes = await context.image('mask', value)
  const size = await context.imageSize('mask', bytes)
  const isOfSize = size.width === width && size.height === height
  if (!size.hasAlpha && !invert && isOfSize) return bytes
  const limits = { maxPixels: context.settings.limits.inputPixels }
  const transparent = size.hasAlpha ? await readMask({ alphaOf: bytes }, limits) : undefined
  const read =
    transparent && !isEmptyMask(transparent)
      ? invertMask(transparent)
      : await readMask(bytes, { ...limits, name: 'mask' })
  const mask = invert ? invertMask(read) : read
  return asFile(isOfSize ? mask : resizeMask(mask, width, height, 'stretch'))
}

function asFile({ data, width, height }: Mask): Promise<Buffer> {
  const rgb = new Uint8Array(data.length * 3)
  for (let i = 0; i < rgb.length; i++) rgb[i] = data[Math.floor(i / 3)]!
  return encodeImage(rgb, width, height)
}
