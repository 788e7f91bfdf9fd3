import { FluxError } from '../errors.js'
import type { ImageInputs, Pixels } from '../families/image-inputs.js'
import type { Variant } from '../families/family.js'
import { extendPixels } from '../images/canvas.js'
import { blurMask, growMask, readMask, resizeMask, type Mask } from '../images/mask.js'
import { cropImage, cropMask, onlyMasked, pasteBack, type Rectangle } from '../images/only-masked.js'
import { readImage } from '../images/read-image.js'
import { fitSize, resizeImage } from '../images/resize.js'
import type { ImageSource, RgbImage } from '../images/rgb-image.js'
import type { NetworkFile } from '../networks/network-file.js'
import { RANGES } from '../options/ranges.js'
import type { ImageSettings } from './image-options.js'

/** The images of a request, read and brought to the size that is drawn. */
export interface PreparedImages {
  /** of the drawing, multiples of the model's unit */
  width: number
  height: number
  /** what the denoiser reads */
  inputs: ImageInputs
  /** the image to start from */
  start?: Pixels
  /** of the drawing's size */
  mask?: Mask
  /** makes the result of the drawing: crops it, and pastes it into the image that was given */
  finish(drawn: RgbImage): RgbImage | Promise<RgbImage>
  warnings: string[]
  /** the files of networks that the denoiser evaluates with itself */
  attached?: readonly NetworkFile<object>[]
  /** set once the images are encoded, for further images of the same request */
  encoded?: EncodedImages
}

export interface EncodedImages {
  /** what the denoiser reads */
  images: unknown
  /** state of the image to start from, without noise */
  image?: Float32Array
}

interface Wanted {
  width?: number | undefined
  height?: number | undefined
  signal: AbortSignal
}

/** The size of the drawing. `padded`: it is the image's own, padded at the right and at the bottom. */
interface DrawingSize {
  width: number
  height: number
  padded: boolean
}

/** Images without a wanted size are drawn at their own, unless their area is this many times the model's own. */
const MAX_AREA = 2

/**
 * Reads the images of a request.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED for a file; FLUX_BAD_OPTION for a mask of another
 *   size than the image, an empty mask, or a size that cannot be drawn
 */
export async function prepareImages(
  settings: ImageSettings,
  { latent, defaults, reads, referenceSize }: Variant,
  { width, height, signal }: Wanted,
): Promise<PreparedImages> {
  const unit = latent.sizeMultiple
  const read = async (source: ImageSource, name: string): Promise<RgbImage> => {
    signal.throwIfAborted()
    return readImage(source, { name })
  }
  const canvas = settings.image === undefined ? undefined : await openCanvas(settings, read)
  const control = settings.controlImage === undefined ? undefined : await read(settings.controlImage, 'controlImage')
  const references: RgbImage[] = []
  for (const [i, source] of settings.referenceImages.entries()) {
    const image = await read(source, `referenceImages[${i}]`)
    const size =
      referenceSize?.(image.width, image.height) ?? fitSize(image.width, image.height, unit, areaOf(image, defaults))
    references.push(await resizeImage(image, size.width, size.height, 'cover'))
  }
  const first = settings.controlNets[0]
  const guide =
    canvas || control || references[0] || !first ? undefined : await read(first.image, 'controlNets[0].image')
  const model = canvas?.image ?? control ?? references[0] ?? guide
  const size = drawingSize(model, { width, height }, unit, defaults)
  const warnings = size.warning === undefined ? [] : [size.warning]
  const inputs: ImageInputs = {
    ...(control ? { control: await resizeImage(control, size.width, size.height, settings.resize) } : {}),
    ...(references.length > 0 ? { references, placement: settings.referencePlacement } : {}),
    ...(await guides(settings, size, read)),
  }
  const prepared = { width: size.width, height: size.height, inputs, warnings }
  if (!canvas) return { ...prepared, finish: (drawn) => drawn }
  const drawing = await startDrawing(canvas, size, settings)
  if (drawing.mask) inputs.mask = drawing.mask.data
  if (reads === 'fill') inputs.fill = { image: drawing.start, mask: drawing.mask!.data }
  return { ...prepared, ...drawing }
}

/** The images of ControlNets, at the size of the drawing, of Redux and of IP-Adapters. */
async function guides(
  { controlNets, redux, ipAdapters, resize }: ImageSettings,
  { width, height }: DrawingSize,
  read: (source: ImageSource, name: string) => Promise<RgbImage>,
): Promise<Pick<ImageInputs, 'controlNets' | 'redux' | 'ipAdapters'>> {
  const inputs: Required<Pick<ImageInputs, 'controlNets' | 'redux' | 'ipAdapters'>> = {
    controlNets: [],
    redux: [],
    ipAdapters: [],
  }
  for (const [i, net] of controlNets.entries()) {
    const image = await read(net.image, `controlNets[${i}].image`)
    inputs.controlNets.push({ ...net, image: await resizeImage(image, width, height, resize) })
  }
  for (const [i, one] of redux.entries())
    inputs.redux.push({ ...one, image: await read(one.image, `redux[${i}].image`) })
  for (const [i, adapter] of ipAdapters.entries())
    inputs.ipAdapters.push({ ...adapter, image: await read(adapter.image, `ipAdapters[${i}].image`) })
  return inputs
}

/** Without a wanted size, that of the image, unless it is much larger than the model's own. */
function drawingSize(
  image: RgbImage | undefined,
  { width, height }: { width: number | undefined; height: number | undefined },
  unit: number,
  defaults: { width: number; height: number },
): DrawingSize & { warning?: string } {
  const { least, most } = RANGES.width
  const within = (side: number) => Math.min(most, Math.max(least, side))
  const whole = (side: number) => within(unit * Math.round(side / unit))
  if (!image || (width !== undefined && height !== undefined))
    return { width: width ?? defaults.width, height: height ?? defaults.height, padded: false }
  // of one side, the other follows
  if (width !== undefined) return { width, height: whole((width * image.height) / image.width), padded: false }
  if (height !== undefined) return { width: whole((height * image.width) / image.height), height, padded: false }
  const area = defaults.width * defaults.height
  if (image.width * image.height <= MAX_AREA * area && Math.max(image.width, image.height) <= most) {
    const covering = (side: number) => within(unit * Math.ceil(side / unit))
    return { width: covering(image.width), height: covering(image.height), padded: true }
  }
  const fitted = fitSize(image.width, image.height, unit, area)
  const size = { width: within(fitted.width), height: within(fitted.height) }
  const warning = `the image of ${image.width} x ${image.height} is drawn at ${size.width} x ${size.height}; give width and height for another size`
  return { ...size, padded: false, warning }
}

/** The number of pixels of a reference image without preferred sizes: its own, at most the model's. */
const areaOf = (image: RgbImage, { width, height }: { width: number; height: number }): number =>
  Math.min(image.width * image.height, width * height)

/** An image and where it is drawn anew, at their own size. */
interface Canvas {
  image: RgbImage
  mask?: Mask
}

/** Brings the canvas, or the masked part of it, to the size of the drawing, and says how it gets back. */
async function startDrawing(
  { image, mask }: Canvas,
  { width, height, padded }: DrawingSize,
  { onlyMasked: padding, resize }: ImageSettings,
): Promise<Pick<PreparedImages, 'start' | 'mask' | 'finish'> & { start: RgbImage }> {
  const whole: Rectangle = { x: 0, y: 0, width: image.width, height: image.height }
  if (mask && padding !== undefined) {
    const part = onlyMasked(mask, padding, width, height)
    const start = await resizeImage(cropImage(image, part), width, height, 'stretch')
    const partMask = resizeMask(cropMask(mask, part), width, height, 'stretch')
    return { start, mask: partMask, finish: (drawn) => pasteBack(image, drawn, part, mask) }
  }
  if (padded) {
    const more = { left: 0, top: 0, right: width - image.width, bottom: height - image.height }
    const start = extendPixels(image, more)
    const finish = (drawn: RgbImage): RgbImage => {
      const cropped = cropImage(drawn, whole)
      return mask ? pasteBack(image, cropped, whole, mask) : cropped
    }
    return { start, ...(mask ? { mask: extendPixels(mask, more) } : {}), finish }
  }
  const start = await resizeImage(image, width, height, resize)
  if (!mask) return { start, finish: (drawn) => drawn }
  const scaled = resize === 'none' ? mask : resizeMask(mask, width, height, resize)
  return { start, mask: scaled, finish: (drawn) => pasteBack(start, drawn, { x: 0, y: 0, width, height }, scaled) }
}

/** Reads the image and its mask, and extends both. */
async function openCanvas(
  { image: source, mask: maskSource, maskGrow, maskBlur, extend }: ImageSettings,
  read: (source: ImageSource, name: string) => Promise<RgbImage>,
): Promise<Canvas> {
  let image = await read(source!, 'image')
  let mask: Mask | undefined
  if (maskSource !== undefined) {
    mask = await readMask(maskSource, { name: 'mask' })
    if (mask.width !== image.width || mask.height !== image.height) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `mask is ${mask.width} x ${mask.height}, but image is ${image.width} x ${image.height}; give a mask of the image's size`,
      )
    }
    if (!mask.data.some((value) => value > 0))
      throw new FluxError(
        'FLUX_BAD_OPTION',
        'mask is empty: nothing is drawn where it is black; give one that is white where the image is drawn anew',
      )
  }
  if (extend) {
    mask ??= { data: new Uint8Array(image.width * image.height), width: image.width, height: image.height }
    image = extendPixels(image, extend)
    mask = extendPixels(mask, extend, 255)
  }
  if (!mask) return { image }
  if (maskGrow !== 0) mask = growMask(mask, maskGrow)
  if (maskBlur > 0) mask = blurMask(mask, maskBlur)
  return { image, mask }
}
