import { FluxError } from '../errors.js'
import { requireOneOf, requireOptions, requireSignal, requireWhole } from '../options/checks.js'
import { inBackground } from './background.js'
import { FILTERS, type FilterName } from './resample.js'
import { RESIZE_MODES, type ResizeMode } from './resize-planes.js'
import { requireRgbImage, requireSides, type RgbImage } from './rgb-image.js'
import { requireColour, WHITE, type Colour } from './to-rgb-image.js'

export interface ResizeOptions {
  /** Pillow's filter of that name, with antialiasing. @default 'lanczos' */
  filter?: FilterName
  /** colour of the border of 'contain', 0 to 255 each. @default white */
  background?: Colour
  signal?: AbortSignal
}

/**
 * Scales an image off the main thread. Needs no package and gives the same bytes on every machine, those of Pillow.
 * Colours and alpha are scaled separately, so that colours under transparent pixels are kept. A border is transparent.
 *
 * @throws FluxError FLUX_BAD_OPTION for a wrong size, mode, filter or colour, or an image of another size in mode 'none'
 */
export async function resizeImage(
  image: RgbImage,
  width: number,
  height: number,
  mode: ResizeMode,
  options: ResizeOptions = {},
): Promise<RgbImage> {
  requireOptions('the options of resizeImage', options, ['filter', 'background', 'signal'])
  const { filter = 'lanczos', background = WHITE, signal } = options
  requireSignal(signal)
  requireRgbImage('image', image)
  requireOneOf('filter', filter, Object.keys(FILTERS))
  const border = requireColour('background', background)
  requireResize('image', image, width, height, mode)
  const scaled = (data: Uint8Array, channels: number, border: readonly number[]) =>
    inBackground('resizePlanes', [data, size(image, channels), [height, width], mode, filter, border], [], signal)
  const colours = await scaled(image.data, 3, border)
  if (!image.alpha) return { data: colours, width, height }
  const alpha = await scaled(image.alpha, 1, [0])
  return { data: colours, width, height, alpha }
}

const size = ({ width, height }: { width: number; height: number }, channels: number) =>
  [height, width, channels] as const

/** @throws FluxError FLUX_BAD_OPTION */
export function requireResize(
  name: string,
  image: { width: number; height: number },
  width: number,
  height: number,
  mode: ResizeMode,
): void {
  requireSides('the new size', width, height)
  requireOneOf('resize', mode, RESIZE_MODES)
  if (mode === 'none' && (image.width !== width || image.height !== height))
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `${name} is ${image.width} x ${image.height}, which resize 'none' does not change: give one of ${width} x ${height}, or take 'cover', 'contain' or 'stretch'`,
    )
}

/**
 * Returns the size whose sides are multiples of `unit` and whose aspect is closest to an image's. Of the multiples
 * next to the ideal sides, those are taken whose aspect differs least. A size that fits already stays as it is.
 *
 * @param pixels about how many pixels the size has. @default those of the image
 * @throws FluxError FLUX_BAD_OPTION for sides, a unit or a number of pixels that are not whole and positive
 */
export function fitSize(
  width: number,
  height: number,
  unit = 16,
  pixels: number = width * height,
): { width: number; height: number } {
  requireSides('the image', width, height)
  requireWhole('unit', unit, 1, 1024)
  requireWhole('pixels', pixels, 1, 2 ** 32)
  const scale = Math.sqrt(pixels / (width * height))
  const [idealWidth, idealHeight] = [width * scale, height * scale]
  const difference = (a: { width: number; height: number }) =>
    Math.abs(Math.log((a.width * height) / (a.height * width))) +
    1e-6 * Math.abs(Math.log((a.width * a.height) / pixels))
  return multiplesNextTo(idealWidth, unit)
    .flatMap((width) => multiplesNextTo(idealHeight, unit).map((height) => ({ width, height })))
    .reduce((best, candidate) => (difference(candidate) < difference(best) ? candidate : best))
}

function multiplesNextTo(ideal: number, unit: number): number[] {
  const below = Math.floor(ideal / unit + 1e-9)
  const above = Math.ceil(ideal / unit - 1e-9)
  return [...new Set([below, above].map((count) => Math.max(1, count) * unit))]
}
