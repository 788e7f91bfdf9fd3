import {
  BACKGROUNDS,
  BACKGROUND_NAMES,
  COLORS,
  COLOR_NAMES,
  type BackgroundName,
  type ColorName,
  type Rgb,
} from './world.js'

/** Euclidean in RGB: the distance in which the world demands that a thing stands out by 105. */
export const rgbDistance = (a: Rgb, b: Rgb) => Math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)

const linear = (byte: number) => {
  const s = Math.min(255, Math.max(0, byte)) / 255
  return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4
}

/** OKLab (Ottosson 2020) of an sRGB colour, 0 to 255. */
export function oklab([red, green, blue]: Rgb): Rgb {
  const [r, g, b] = [linear(red), linear(green), linear(blue)]
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ]
}

function nearest<Name extends string>(names: readonly Name[], table: Record<Name, Rgb>): (color: Rgb) => Name {
  const places = names.map((name) => oklab(table[name]))
  return (color) => {
    const place = oklab(color)
    const distances = places.map((other) => rgbDistance(place, other))
    return names[distances.indexOf(Math.min(...distances))]
  }
}

export const nearestColor: (color: Rgb) => ColorName = nearest(COLOR_NAMES, COLORS)
export const nearestBackground: (color: Rgb) => BackgroundName = nearest(BACKGROUND_NAMES, BACKGROUNDS)
