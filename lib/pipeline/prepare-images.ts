import { FluxError } from '../errors.js'
import type { ImageInputs, Pixels } from '../families/image-inputs.js'
import type { Variant } from '../families/family.js'
import { inBackground } from '../images/background.js'
import type { Jobs } from '../images/background-worker.js'
import { isEmptyMask, type Mask } from '../images/edit-mask.js'
import { readMask } from '../images/mask.js'
import { cropImage, cropMask, type Rectangle } from '../images/only-masked.js'
import { readImage } from '../images/read-image.js'
import { fitSize, requireResize, resizeImage } from '../images/resize.js'
import type { ResizeMode } from '../images/resize-planes.js'
import type { ImageSource, RgbImage } from '../images/rgb-image.js'
import type { NetworkFile } from '../networks/network-file.js'
import { untilAborted } from '../options/abort.js'
import { RANGES } from '../options/ranges.js'
import type { ImageSettings } from './image-options.js'

/** The images of a request, read and brought to the size that is drawn. */
export interface PreparedImages {
  /** of the drawing, multiples of the model's unit */
  width: number
  height: number
  /** the size that gives this drawing again when it is requested; an image that is drawn at its own size has that */
  requested: Size
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

/**
 * The work on images that takes long, off the main thread. When the request is aborted the caller hears of it at once, and
 * the thread stops unless it works for others as well.
 */
class Workshop {
  readonly #signal: AbortSignal

  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  read(source: ImageSource, name: string): Promise<RgbImage> {
    return this.#do(() => readImage(source, { name, signal: this.#signal }))
  }

  readMask(source: NonNullable<ImageSettings['mask']>): Promise<Mask> {
    return this.#do(() => readMask(source, { name: 'mask', signal: this.#signal }))
  }

  resize(image: RgbImage, width: number, height: number, mode: ResizeMode, name = 'image'): Promise<RgbImage> {
    requireResize(name, image, width, height, mode)
    return this.#do(() => resizeImage(image, width, height, mode, { signal: this.#signal }))
  }

  /** @param moved what of `args` is not needed any more, and thus moved instead of copied */
  run<Job extends keyof Jobs>(
    job: Job,
    args: Parameters<Jobs[Job]>,
    ...moved: { data: Uint8Array }[]
  ): Promise<ReturnType<Jobs[Job]>> {
    const buffers = moved.map(({ data }) => data.buffer as ArrayBuffer)
    return this.#do(() => inBackground(job, args, buffers, this.#signal))
  }

  #do<T>(work: () => Promise<T>): Promise<T> {
    this.#signal.throwIfAborted()
    return untilAborted(work(), this.#signal)
  }
}

interface Size {
  width: number
  height: number
}

/** The size of the drawing. `padded`: it is the image's own, padded at the right and at the bottom. */
interface DrawingSize extends Size {
  padded: boolean
}

/** The part of the image that is drawn, and its size in the drawing. It is at the top left, and the rest is padded. */
interface Placed {
  part: Rectangle
  inner: Size
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
  const workshop = new Workshop(signal)
  const canvas = settings.image === undefined ? undefined : await openCanvas(settings, workshop)
  const control =
    settings.controlImage === undefined ? undefined : await workshop.read(settings.controlImage, 'controlImage')
  const references: RgbImage[] = []
  for (const [i, source] of settings.referenceImages.entries()) {
    const image = await workshop.read(source, `referenceImages[${i}]`)
    const size =
      referenceSize?.(image.width, image.height) ?? fitSize(image.width, image.height, unit, areaOf(image, defaults))
    references.push(await workshop.resize(image, size.width, size.height, 'cover'))
  }
  const first = settings.controlNets[0]
  const guide =
    canvas || control || references[0] || !first ? undefined : await workshop.read(first.image, 'controlNets[0].image')
  const model = canvas?.image ?? control ?? references[0] ?? guide
  const wanted = drawingSize(model, { width, height }, unit, defaults)
  // of `onlyMasked` the result keeps the size of the image
  const warnings = wanted.warning === undefined || settings.onlyMasked !== undefined ? [] : [wanted.warning]
  const { placed, ...size } = await place(canvas, settings, wanted, unit, workshop)
  const frame: Frame = { ...size, ...(placed ? { placed } : {}), ...(canvas ? { canvas: canvas.image } : {}) }
  const inputs: ImageInputs = {
    ...(control ? { control: await inFrame(control, 'controlImage', frame, settings, workshop) } : {}),
    ...(references.length > 0 ? { references, placement: settings.referencePlacement } : {}),
    ...(await guides(settings, frame, workshop)),
  }
  const { width: requestedWidth, height: requestedHeight } = canvas && wanted.padded ? canvas.image : wanted
  const prepared = { ...size, requested: { width: requestedWidth, height: requestedHeight }, inputs, warnings }
  if (!canvas) return { ...prepared, finish: (drawn) => drawn }
  const drawing = await startDrawing(canvas, size, placed, settings, workshop)
  if (drawing.mask) inputs.mask = drawing.mask.data
  if (reads === 'fill') inputs.fill = { image: drawing.start, mask: drawing.mask!.data }
  return { ...prepared, ...drawing }
}

/** The drawing, and the size of the canvas that it shows. */
interface Frame extends Size {
  /** what is drawn of the canvas, if that is not resized as a whole */
  placed?: Placed
  /** absent for a request without an image */
  canvas?: Size
}

/** Brings an image of what the canvas shows to where that is in the drawing. */
async function inFrame(
  image: RgbImage,
  name: string,
  { width, height, placed, canvas }: Frame,
  { resize, extend }: ImageSettings,
  workshop: Workshop,
): Promise<RgbImage> {
  if (!canvas) return workshop.resize(image, width, height, resize, name)
  const { left = 0, right = 0, top = 0, bottom = 0 } = extend ?? {}
  const isExtended = left + right + top + bottom > 0
  if (isExtended && image.width === canvas.width - left - right && image.height === canvas.height - top - bottom)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `${name} is ${image.width} x ${image.height}, the size before extend: give one of ${canvas.width} x ${canvas.height}, which shows the added sides as well`,
    )
  const isOfAspect = (size: Size) => image.width * size.height === image.height * size.width
  // one of the drawing's aspect was made for it
  if (!placed && (isOfAspect(canvas) || isOfAspect({ width, height })))
    return workshop.resize(image, width, height, resize, name)
  const aligned = await workshop.resize(image, canvas.width, canvas.height, resize, name)
  if (!placed) return workshop.resize(aligned, width, height, resize, name)
  return fillFrame(cropImage(colours(aligned), placed.part), placed, { width, height }, workshop)
}

/** Brings the placed part to its size in the drawing, and pads the rest. */
async function fillFrame(
  part: RgbImage,
  { inner }: Placed,
  { width, height }: Size,
  workshop: Workshop,
): Promise<RgbImage> {
  const scaled = await workshop.resize(part, inner.width, inner.height, 'stretch')
  return workshop.run('extendPixels', [scaled, paddingOf(inner, { width, height })], scaled)
}

const paddingOf = (inner: Size, { width, height }: Size) => ({
  ...{ left: 0, top: 0 },
  right: width - inner.width,
  bottom: height - inner.height,
})

/** The images of ControlNets, as they belong to the drawing, of Redux and of IP-Adapters. */
async function guides(
  settings: ImageSettings,
  frame: Frame,
  workshop: Workshop,
): Promise<Pick<ImageInputs, 'controlNets' | 'redux' | 'ipAdapters'>> {
  const { controlNets, redux, ipAdapters } = settings
  const inputs: Required<Pick<ImageInputs, 'controlNets' | 'redux' | 'ipAdapters'>> = {
    controlNets: [],
    redux: [],
    ipAdapters: [],
  }
  for (const [i, net] of controlNets.entries()) {
    const name = `controlNets[${i}].image`
    const image = await workshop.read(net.image, name)
    inputs.controlNets.push({ ...net, image: await inFrame(image, name, frame, settings, workshop) })
  }
  for (const [i, one] of redux.entries())
    inputs.redux.push({ ...one, image: await workshop.read(one.image, `redux[${i}].image`) })
  for (const [i, adapter] of ipAdapters.entries())
    inputs.ipAdapters.push({ ...adapter, image: await workshop.read(adapter.image, `ipAdapters[${i}].image`) })
  return inputs
}

const within = (side: number): number => Math.min(RANGES.width.most, Math.max(RANGES.width.least, side))
/** the smallest side of a drawing that has room for this many pixels */
const covering = (side: number, unit: number): number => within(unit * Math.ceil(side / unit))

/** Without a wanted size, that of the image, unless it is much larger than the model's own. */
function drawingSize(
  image: RgbImage | undefined,
  { width, height }: { width: number | undefined; height: number | undefined },
  unit: number,
  defaults: { width: number; height: number },
): DrawingSize & { warning?: string } {
  const whole = (side: number) => within(unit * Math.round(side / unit))
  if (!image || (width !== undefined && height !== undefined))
    return { width: width ?? defaults.width, height: height ?? defaults.height, padded: false }
  // of one side, the other follows
  if (width !== undefined) return { width, height: whole((width * image.height) / image.width), padded: false }
  if (height !== undefined) return { width: whole((height * image.width) / image.height), height, padded: false }
  const area = defaults.width * defaults.height
  if (image.width * image.height <= MAX_AREA * area && Math.max(image.width, image.height) <= RANGES.width.most)
    return { width: covering(image.width, unit), height: covering(image.height, unit), padded: true }
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

/**
 * Places the canvas, or the masked part of it, in the drawing, undistorted. Where the image has no room for the aspect that
 * is wanted around the masked part, the drawing takes the part's aspect, with about as many pixels.
 *
 * @returns the size of the drawing; `placed`: undefined if the canvas is resized as a whole
 */
async function place(
  canvas: Canvas | undefined,
  { onlyMasked: padding }: ImageSettings,
  { width, height, padded }: DrawingSize,
  unit: number,
  workshop: Workshop,
): Promise<Size & { placed?: Placed }> {
  const { image, mask } = canvas ?? {}
  if (!image || !mask || padding === undefined) {
    if (!image || !padded) return { width, height }
    const inner = { width: image.width, height: image.height }
    return { width, height, placed: { part: { x: 0, y: 0, ...inner }, inner } }
  }
  const part = await workshop.run('onlyMasked', [mask, padding, width, height])
  // by half a pixel, because the sides of the part are whole
  const isOfAspect = 2 * Math.abs(part.width * height - part.height * width) <= Math.max(width, height)
  const own = fitSize(part.width, part.height, unit, width * height)
  const room = isOfAspect ? { width, height } : { width: within(own.width), height: within(own.height) }
  const scale = Math.min(room.width / part.width, room.height / part.height)
  const scaled = (side: number, most: number) => Math.min(most, Math.max(1, Math.round(scale * side)))
  const inner = { width: scaled(part.width, room.width), height: scaled(part.height, room.height) }
  const size = isOfAspect ? room : { width: covering(inner.width, unit), height: covering(inner.height, unit) }
  return { ...size, placed: { part, inner } }
}

/** Brings the canvas, or what is placed of it, to the size of the drawing, and says how it gets back. */
async function startDrawing(
  { image, mask }: Canvas,
  { width, height }: Size,
  placed: Placed | undefined,
  { resize }: ImageSettings,
  workshop: Workshop,
): Promise<Pick<PreparedImages, 'start' | 'mask' | 'finish'> & { start: RgbImage }> {
  const paste = (original: RgbImage, drawn: RgbImage, part: Rectangle, mask: Mask) =>
    workshop.run('pasteBack', [colours(original), drawn, part, mask])
  if (placed) {
    const { part, inner } = placed
    const start = await fillFrame(cropImage(colours(image), part), placed, { width, height }, workshop)
    const finish = (drawn: RgbImage): RgbImage | Promise<RgbImage> => {
      const cropped = cropImage(drawn, { x: 0, y: 0, ...inner })
      return mask ? paste(image, cropped, part, mask) : cropped
    }
    if (!mask) return { start, finish }
    const partMask = cropMask(mask, part)
    const scaledMask = await workshop.run('resizeMask', [partMask, inner.width, inner.height, 'stretch'], partMask)
    const padding = paddingOf(inner, { width, height })
    return { start, mask: await workshop.run('extendPixels', [scaledMask, padding], scaledMask), finish }
  }
  const start = await workshop.resize(image, width, height, resize)
  if (!mask) return { start, finish: (drawn) => drawn }
  const scaled = resize === 'none' ? mask : await workshop.run('resizeMask', [mask, width, height, resize], mask)
  return { start, mask: scaled, finish: (drawn) => paste(start, drawn, { x: 0, y: 0, width, height }, scaled) }
}

/** without alpha, which is no part of what is drawn */
const colours = ({ data, width, height }: RgbImage): RgbImage => ({ data, width, height })

/** Reads the image and its mask, and extends both. */
async function openCanvas(
  { image: source, mask: maskSource, maskGrow, maskBlur, extend }: ImageSettings,
  workshop: Workshop,
): Promise<Canvas> {
  let image = await workshop.read(source!, 'image')
  let mask: Mask | undefined
  if (maskSource !== undefined) {
    mask = await workshop.readMask(maskSource)
    if (mask.width !== image.width || mask.height !== image.height) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `mask is ${mask.width} x ${mask.height}, but image is ${image.width} x ${image.height}; give a mask of the image's size`,
      )
    }
    if (isEmptyMask(mask))
      throw new FluxError(
        'FLUX_BAD_OPTION',
        'mask is empty: nothing is drawn where it is black; give one that is white where the image is drawn anew',
      )
  }
  if (extend) {
    mask ??= { data: new Uint8Array(image.width * image.height), width: image.width, height: image.height }
    image = await workshop.run('extendPixels', [colours(image), extend], image)
    mask = await workshop.run('extendPixels', [mask, extend, 255], mask)
  }
  if (!mask) return { image }
  if (maskGrow !== 0) mask = requireLeft('maskGrow', maskGrow, await workshop.run('growMask', [mask, maskGrow], mask))
  if (maskBlur > 0) mask = requireLeft('maskBlur', maskBlur, await workshop.run('blurMask', [mask, maskBlur], mask))
  return { image, mask }
}

/** @throws {FluxError} FLUX_BAD_OPTION if an option has made the mask empty */
function requireLeft(option: string, value: number, mask: Mask): Mask {
  if (!isEmptyMask(mask)) return mask
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `${option} ${value} makes the mask empty: nothing of it is left to draw; give a value closer to 0, or a larger mask`,
  )
}
