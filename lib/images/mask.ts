import { FluxError } from '../errors.js'
import { requireOptions } from '../options/checks.js'
import { inBackground } from './background.js'
import { invertMask, type Mask } from './edit-mask.js'
import { describeSource } from './image-file.js'
import { readImage, type ReadImageOptions } from './read-image.js'
import type { ImageSource } from './rgb-image.js'

/** An image whose transparent pixels are drawn anew, as in OpenAI's API. */
export interface AlphaOf {
  alphaOf: ImageSource
}

export interface ReadMaskOptions extends Pick<ReadImageOptions, 'maxPixels' | 'name' | 'signal'> {
  /** black is drawn anew instead of white. @default false */
  invert?: boolean
}

/**
 * Reads a mask. White is drawn anew, black stays. Colours count by their brightness, and transparent pixels are black.
 * With `{ alphaOf }` the transparency of an image is the mask.
 *
 * @throws FluxError as {@link readImage}; FLUX_BAD_OPTION for `alphaOf` an image without alpha channel
 */
export async function readMask(source: ImageSource | AlphaOf, options: ReadMaskOptions = {}): Promise<Mask> {
  requireOptions('the options of readMask', options, ['maxPixels', 'name', 'invert', 'signal'])
  const { invert = false, name = 'mask', ...limits } = options
  const mask = isAlphaOf(source)
    ? await transparency(`${name}.alphaOf`, source.alphaOf, limits)
    : await brightness(name, source, limits)
  return invert ? invertMask(mask) : mask
}

function isAlphaOf(source: ImageSource | AlphaOf): source is AlphaOf {
  return typeof source === 'object' && source !== null && 'alphaOf' in source
}

async function transparency(name: string, source: ImageSource, limits: ReadImageOptions): Promise<Mask> {
  const { alpha, width, height } = await readImage(source, { ...limits, name, background: 'keep' })
  if (!alpha) {
    const what = describeSource(name, source)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `${what} has no alpha channel: give an image that is transparent where it is drawn anew, or a mask that is white there`,
    )
  }
  return invertMask({ data: alpha, width, height })
}

async function brightness(name: string, source: ImageSource, limits: ReadImageOptions): Promise<Mask> {
  const { data: rgb, width, height } = await readImage(source, { ...limits, name, background: [0, 0, 0] })
  return inBackground('brightnessOf', [{ data: rgb, width, height }], [rgb.buffer as ArrayBuffer], limits.signal)
}
