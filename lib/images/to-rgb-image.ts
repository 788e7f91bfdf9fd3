import { badOption, requireWhole } from '../options/checks.js'
import type { Pixels, RgbImage } from './rgb-image.js'

/** An RGB colour, 0 to 255 each. */
export type Colour = readonly [number, number, number]

export const WHITE: Colour = [255, 255, 255]

/**
 * Returns a copy of the three numbers, without what else the caller's array may hold: a thread cannot receive everything.
 *
 * @throws FluxError FLUX_BAD_OPTION
 */
export function requireColour(name: string, colour: Colour): Colour {
  if (!Array.isArray(colour) || colour.length !== 3) throw badOption(name, colour, '[red, green, blue], 0 to 255 each')
  const [red, green, blue] = colour
  const copy: Colour = [red, green, blue]
  copy.forEach((value, i) => requireWhole(`${name}[${i}]`, value, 0, 255))
  return copy
}

/**
 * Turns decoded pixels upright and into RGB, with the colour `background` behind transparent ones.
 *
 * @param orientation of Exif, 1 to 8: 1 is upright, 6 has to be turned by 90 degrees clockwise
 * @param background 'keep' leaves colours as they are stored
 */
export function toRgbImage(
  { data, width, height, channels }: Pixels,
  orientation: number,
  background: Colour | 'keep',
): RgbImage {
  const upright = uprightIndex(width, height, orientation)
  const [w, h] = orientation >= 5 ? [height, width] : [width, height]
  const rgb = new Uint8Array(w * h * 3)
  const alpha = channels === 4 ? new Uint8Array(w * h) : undefined
  const [green, blue] = channels === 1 ? [0, 0] : [1, 2]
  for (let y = 0, o = 0; y < h; y++) {
    for (let x = 0; x < w; x++, o++) {
      const i = (orientation === 1 ? o : upright(x, y)) * channels
      rgb[o * 3] = data[i]!
      rgb[o * 3 + 1] = data[i + green]!
      rgb[o * 3 + 2] = data[i + blue]!
      if (alpha) alpha[o] = data[i + 3]!
    }
  }
  if (alpha && background !== 'keep') composite(rgb, alpha, background)
  return { data: rgb, width: w, height: h, ...(alpha && { alpha }) }
}

/** Lays the pixels over a colour, in place: (colour * alpha + background * (255 - alpha)) / 255, rounded. */
export function composite(rgb: Uint8Array, alpha: Uint8Array, background: Colour): void {
  for (let i = 0; i < alpha.length; i++) {
    const a = alpha[i]!
    if (a === 255) continue
    for (let c = 0; c < 3; c++) rgb[i * 3 + c] = Math.round((rgb[i * 3 + c]! * a + background[c]! * (255 - a)) / 255)
  }
}

/** Maps a pixel of the upright image to the index of the stored one. Source: Exif 2.32, section 4.6.4, Orientation. */
function uprightIndex(width: number, height: number, orientation: number): (x: number, y: number) => number {
  const at = (column: number, row: number) => row * width + column
  switch (orientation) {
    case 2:
      return (x, y) => at(width - 1 - x, y)
    case 3:
      return (x, y) => at(width - 1 - x, height - 1 - y)
    case 4:
      return (x, y) => at(x, height - 1 - y)
    case 5:
      return (x, y) => at(y, x)
    case 6:
      return (x, y) => at(y, height - 1 - x)
    case 7:
      return (x, y) => at(width - 1 - y, height - 1 - x)
    case 8:
      return (x, y) => at(width - 1 - y, x)
    default:
      return at
  }
}
