import sharp from 'sharp'
import { rgbDistance } from './colors.js'
import {
  BACKGROUNDS,
  BACKGROUND_NAMES,
  COLORS,
  COLOR_NAMES,
  SHAPES,
  SIZES,
  type BackgroundName,
  type ColorName,
  type Direction,
  type Relation,
  type Rgb,
  type Shape,
  type SizeName,
} from './world.js'

export interface Picture {
  /** [height, width, 3] */
  rgb: Uint8Array
  width: number
  height: number
}

/** Centre and radius in pixels. */
export interface DrawnThing {
  shape: Shape
  color: ColorName
  size: SizeName
  x: number
  y: number
  radius: number
}

export interface Scene {
  width: number
  height: number
  background: { names: BackgroundName[]; direction: Direction | null }
  things: DrawnThing[]
  relation?: Relation
}

export type Random = () => number

/** mulberry32: the same numbers of a seed on every machine, 0 to 1. */
export function seeded(seed: number): Random {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)]
const between = (random: Random, low: number, high: number) => low + (high - low) * random()

/** One thing, or two with a relation, in colours that stand out from the background everywhere. */
export function randomScene(random: Random, width: number, height: number): Scene {
  const side = Math.min(width, height)
  const background = randomBackground(random)
  const colors = standingOut(background)
  const thing = (): Omit<DrawnThing, 'x' | 'y'> => {
    const size = pick(random, Object.keys(SIZES) as SizeName[])
    const radius = SIZES[size] * side * between(random, 0.94, 1.06)
    return { shape: pick(random, SHAPES), color: pick(random, colors), size, radius }
  }
  if (random() < 0.4) {
    const alone = thing()
    const [x, y] = [width, height].map((length) => between(random, 1.3 * alone.radius, length - 1.3 * alone.radius))
    return { width, height, background, things: [{ ...alone, x, y }] }
  }
  const relation = pick(random, ['left of', 'above'] as const)
  const [length, across] = relation === 'left of' ? [width, height] : [height, width]
  while (true) {
    const pair = [thing(), thing()]
    const [a, b] = pair.map(({ radius }) => 1.3 * radius)
    // as in the world, corners that point at one another may nearly touch
    const free = length - 2 * (a + b)
    if (free < -0.02 * side) continue
    const start = Math.max(0, free) * between(random, 0.1, 0.4)
    const gap = Math.max(0, free) * between(random, 0.2, 0.5)
    const along = [a + start, Math.min(length - b, start + 2 * a + gap + b)]
    const things = pair.map((one, i) => {
      const off = across * between(random, 0.44, 0.56)
      return relation === 'left of' ? { ...one, x: along[i], y: off } : { ...one, x: off, y: along[i] }
    })
    return { width, height, background, things, relation }
  }
}

function randomBackground(random: Random): Scene['background'] {
  while (true) {
    const graded = random() < 0.35
    const names = graded
      ? [pick(random, BACKGROUND_NAMES), pick(random, BACKGROUND_NAMES)]
      : [pick(random, BACKGROUND_NAMES)]
    if (graded && rgbDistance(BACKGROUNDS[names[0]], BACKGROUNDS[names[1]]) < 60) continue
    const background = { names, direction: graded ? pick(random, ['down', 'right'] as const) : null }
    if (standingOut(background).length >= 3) return background
  }
}

/** The colours that are seen everywhere on the background. */
export function standingOut({ names }: Scene['background']): ColorName[] {
  const [first, last] = [BACKGROUNDS[names[0]], BACKGROUNDS[names[names.length - 1]]]
  const shades = Array.from(
    { length: 9 },
    (_, i) => first.map((value, c) => value + ((last[c] - value) * i) / 8) as unknown as Rgb,
  )
  return COLOR_NAMES.filter((name) => shades.every((shade) => rgbDistance(COLORS[name], shade) >= 105))
}

const css = ([r, g, b]: Rgb) => `rgb(${r},${g},${b})`

/** One thing of radius 1 around the origin, in SVG's own terms; `paint` is a colour. */
const DRAWN: Record<Shape, (paint: string) => string> = {
  circle: (paint) => `<circle r="1" fill="${paint}"/>`,
  square: (paint) => `<rect x="-0.9" y="-0.9" width="1.8" height="1.8" fill="${paint}"/>`,
  triangle: (paint) => `<polygon points="0,-1.05 1.08,0.83 -1.08,0.83" fill="${paint}"/>`,
  star: (paint) =>
    `<polygon fill="${paint}" points="0,-1.25 .29,-.4 1.19,-.39 .48,.15 .73,1.01 0,.5 -.73,1.01 -.48,.15 -1.19,-.39 -.29,-.4"/>`,
  ring: (paint) => `<circle r="0.815" fill="none" stroke="${paint}" stroke-width="0.47"/>`,
  cross: (paint) => `<path d="M0,-1.05V1.05M-1.05,0H1.05" stroke="${paint}" stroke-width="0.68"/>`,
  heart: (paint) =>
    `<path fill="${paint}" d="M0,-.17C.1,-.6 .4,-.74 .6,-.74C.95,-.74 1.12,-.45 1.12,-.15C1.12,.5 .4,.85 0,1.36` +
    'C-.4,.85 -1.12,.5 -1.12,-.15C-1.12,-.45 -.95,-.74 -.6,-.74C-.4,-.74 -.1,-.6 0,-.17Z"/>',
  diamond: (paint) => `<path fill="${paint}" d="M0,-1.25L.95,0L0,1.25L-.95,0Z"/>`,
}

export function drawnThing({ shape, color, x, y, radius }: DrawnThing): string {
  return `<g transform="translate(${x} ${y}) scale(${radius})">${DRAWN[shape](css(COLORS[color]))}</g>`
}

/** The scene with whatever else, as SVG, on top of it. */
export function sceneSvg({ width, height, background, things }: Scene, more = ''): string {
  const { names, direction } = background
  const stops = names.map((name, i) => `<stop offset="${i}" stop-color="${css(BACKGROUNDS[name])}"/>`).join('')
  const end = direction === 'down' ? 'x2="0" y2="1"' : 'x2="1" y2="0"'
  const paint = names.length === 1 ? css(BACKGROUNDS[names[0]]) : 'url(#ground)'
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">` +
    `<defs><linearGradient id="ground" x1="0" y1="0" ${end}>${stops}</linearGradient></defs>` +
    `<rect width="100%" height="100%" fill="${paint}"/>${things.map(drawnThing).join('')}${more}</svg>`
  )
}

export async function draw(svg: string): Promise<Picture> {
  const { data, info } = await sharp(Buffer.from(svg))
    .flatten()
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  return { rgb: new Uint8Array(data), width: info.width, height: info.height }
}
