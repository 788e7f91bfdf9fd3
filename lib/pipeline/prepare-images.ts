import { FluxError } from '../errors.js'
import type { ImageInputs, Pixels } from '../families/image-inputs.js'
import type { Variant } from '../families/family.js'
import { cropPixels, extendPixels, type Rectangle } from '../images/canvas.js'
import { blurMask, growMask, maskedRectangle, readMask } from '../images/mask.js'
import { readImage, type ImageSource } from '../images/read-image.js'
import { resizeImage, resizeMask } from '../images/resize-image.js'
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
  /** [height, width], 255 where the image is drawn anew */
  mask?: Uint8Array
  /** makes the result of the drawing: crops it, and pastes it into the image that was given */
  finish(drawn: Pixels): Pixels
  warnings: string[]
  /** set once the images are encoded, for further images of the same request */
  encoded?: EncodedImages
}

export interface EncodedImages {
  /** what the denoiser reads */
  tensors: Record<string, Float32Array>
  /** state of the image to start from, without noise */
  image?: Float32Array
}

interface Wanted {
  width?: number | undefined
  height?: number | undefined
  signal: AbortSignal
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
  { latent, defaults, reads, referenceSizes }: Variant,
  { width, height, signal }: Wanted,
): Promise<PreparedImages> {
  const read = (source: ImageSource): Promise<Pixels> => readImage(source, { signal })
  const { resize, onlyMasked } = settings
  const unit = latent.sizeMultiple
  const warnings: string[] = []
  const rounded = (side: number) => Math.max(RANGES.width.least, unit * Math.ceil(side / unit))

  const canvas = settings.image === undefined ? undefined : await openCanvas(settings, read, signal)
  const control = settings.controlImage === undefined ? undefined : await read(settings.controlImage)
  const references: Pixels[] = []
  for (const source of settings.referenceImages) references.push(await read(source))
  const fitted = references.map((reference) => {
    const size = referenceSize(reference, referenceSizes, unit, defaults)
    return resizeImage(reference, size.width, size.height, 'cover')
  })

  // the size of the drawing, and whether it is the image's own, padded to the unit
  const model = canvas?.image ?? control ?? fitted[0]!
  const own = width === undefined && height === undefined
  let [drawWidth, drawHeight] = [width ?? defaults.width, height ?? defaults.height]
  let padded = false
  if (own) {
    const area = model.width * model.height
    const most = MAX_AREA * defaults.width * defaults.height
    const scale = area > most ? Math.sqrt((defaults.width * defaults.height) / area) : 1
    padded = scale === 1
    const side = (length: number) =>
      padded ? rounded(length) : Math.max(RANGES.width.least, unit * Math.round((length * scale) / unit))
    drawWidth = side(model.width)
    drawHeight = side(model.height)
    if (!padded)
      warnings.push(
        `the image of ${model.width} x ${model.height} is drawn at ${drawWidth} x ${drawHeight}; give width and height for another size`,
      )
  }
  const inputs: ImageInputs = {
    ...(control ? { control: resizeImage(control, drawWidth, drawHeight, resize) } : {}),
    ...(fitted.length > 0 ? { references: fitted, placement: settings.referencePlacement } : {}),
  }
  const size = { width: drawWidth, height: drawHeight }
  if (!canvas) return { ...size, inputs, finish: (drawn) => drawn, warnings }

  const region: Rectangle | undefined =
    onlyMasked === undefined ? undefined : maskedRectangle(canvas.mask!, canvas.image, onlyMasked, size)
  const whole = { left: 0, top: 0, width: canvas.image.width, height: canvas.image.height }
  const seen = region ?? whole
  const part = region ? cropPixels(canvas.image, region) : canvas.image
  const partMask = canvas.mask && { data: canvas.mask, width: canvas.image.width, height: canvas.image.height }
  const cut = partMask && region ? cropPixels(partMask, region) : partMask
  const pad = { left: 0, top: 0, right: drawWidth - part.width, bottom: drawHeight - part.height }
  const stays = padded && !region
  const start = stays ? extendPixels(part, pad) : resizeImage(part, drawWidth, drawHeight, resize)
  const mask = cut && (stays ? extendPixels(cut, pad) : resizeMask(cut, drawWidth, drawHeight, resize)).data
  if (reads === 'fill') Object.assign(inputs, { image: start, mask })
  return {
    ...size,
    inputs,
    start,
    ...(mask ? { mask } : {}),
    finish(drawn) {
      const fitting = stays
        ? cropPixels(drawn, whole)
        : region
          ? resizeImage(drawn, seen.width, seen.height, 'stretch')
          : drawn
      if (!canvas.mask) return fitting
      // outside the mask the image stays as it was given, at the size that is returned
      if (region || stays) return paste(canvas.image, canvas.mask, fitting, seen)
      return paste(start, mask!, fitting, { left: 0, top: 0, width: drawWidth, height: drawHeight })
    },
    warnings,
  }
}

interface Canvas {
  image: Pixels
  mask?: Uint8Array
}

/** Reads the image and its mask, and extends both. */
async function openCanvas(
  { image: source, mask: maskSource, maskGrow, maskBlur, extend }: ImageSettings,
  read: (source: ImageSource) => Promise<Pixels>,
  signal: AbortSignal,
): Promise<Canvas> {
  let image = await read(source!)
  let mask: { data: Uint8Array; width: number; height: number } | undefined
  if (maskSource !== undefined) {
    mask = await readMask(maskSource, { signal })
    if (mask.width !== image.width || mask.height !== image.height) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `mask is ${mask.width} x ${mask.height}, but image is ${image.width} x ${image.height}; give a mask of the image's size`,
      )
    }
    if (!mask.data.some((value) => value > 0))
      throw new FluxError(
        'FLUX_BAD_OPTION',
        'mask is empty: nothing is drawn where it is black; paint white what is to be drawn',
      )
  }
  if (extend) {
    mask ??= { data: new Uint8Array(image.width * image.height), width: image.width, height: image.height }
    image = extendPixels(image, extend)
    mask = extendPixels(mask, extend, 255)
  }
  if (!mask) return { image }
  let { data } = mask
  if (maskGrow !== 0) data = growMask(data, mask.width, mask.height, maskGrow)
  if (maskBlur > 0) data = blurMask(data, mask.width, mask.height, maskBlur)
  return { image, mask: data }
}

/** The size for a reference image: the preferred one with the closest aspect, or its own, in whole units. */
function referenceSize(
  { width, height }: Pixels,
  sizes: Variant['referenceSizes'],
  unit: number,
  defaults: { width: number; height: number },
): { width: number; height: number } {
  if (sizes) {
    const off = ([w, h]: readonly [number, number]) => Math.abs(w / h - width / height)
    const [w, h] = sizes.reduce((best, size) => (off(size) < off(best) ? size : best))
    return { width: w, height: h }
  }
  const scale = Math.min(1, Math.sqrt((defaults.width * defaults.height) / (width * height)))
  const side = (length: number) => Math.max(unit, unit * Math.floor((length * scale) / unit))
  return { width: side(width), height: side(height) }
}

/** Pastes `drawn` over `image` at `place`: a sum weighted by the mask [image.height, image.width]. */
function paste(image: Pixels, mask: Uint8Array, drawn: Pixels, { left, top, width, height }: Rectangle): Pixels {
  const data = new Uint8Array(image.data)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (top + y) * image.width + left + x
      const weight = mask[at]! / 255
      if (weight === 0) continue
      for (let c = 0; c < 3; c++) {
        const [old, drawnByte] = [image.data[3 * at + c]!, drawn.data[3 * (y * width + x) + c]!]
        data[3 * at + c] = Math.round(weight * drawnByte + (1 - weight) * old)
      }
    }
  }
  return { data, width: image.width, height: image.height }
}
