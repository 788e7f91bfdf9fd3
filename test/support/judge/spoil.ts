import sharp from 'sharp'
import { draw, sceneSvg, type Picture, type Random, type Scene } from './scenes.js'
import type { Shape } from './world.js'

const image = ({ rgb, width, height }: Picture) => sharp(rgb, { raw: { width, height, channels: 3 } })

/** `sigma` in pixels. */
export async function blurred(picture: Picture, sigma: number): Promise<Picture> {
  return { ...picture, rgb: new Uint8Array(await image(picture).blur(sigma).raw().toBuffer()) }
}

export async function compressed(picture: Picture, quality: number): Promise<Picture> {
  const file = await image(picture).jpeg({ quality }).toBuffer()
  return { ...picture, rgb: new Uint8Array(await sharp(file).raw().toBuffer()) }
}

/** Every byte is moved by up to `amount`. */
export function noisy(picture: Picture, amount: number, random: Random): Picture {
  return {
    ...picture,
    rgb: Uint8Array.from(picture.rgb, (value) => clamp(value + Math.round(amount * (2 * random() - 1)))),
  }
}

/** Every channel is moved as a whole by `amount`, upward or downward. */
export function shifted(picture: Picture, amount: number, random: Random): Picture {
  const by = [0, 1, 2].map(() => (random() < 0.5 ? -amount : amount))
  return { ...picture, rgb: picture.rgb.map((value, i) => clamp(value + by[i % 3])) }
}

const clamp = (value: number) => Math.min(255, Math.max(0, value))

const ANGLES = 180
/** Of every direction from the centre: where the shape begins and where it ends, radius 1. */
type Profile = [inner: number, outer: number][]

/** Measured on a large drawing of the shape. */
async function profileOf(shape: Shape): Promise<Profile> {
  const [side, radius] = [512, 190]
  const centre = side / 2
  const thing = { shape, color: 'black', size: 'large', x: centre, y: centre, radius } as const
  const blank: Scene = { width: side, height: side, background: { names: ['white'], direction: null }, things: [thing] }
  const { rgb } = await draw(sceneSvg(blank))
  return Array.from({ length: ANGLES }, (_, k) => {
    const [dx, dy] = direction(k)
    const covered: number[] = []
    for (let r = 0; r < centre; r++) {
      if (rgb[3 * (Math.floor(centre + r * dy) * side + Math.floor(centre + r * dx))] < 128) covered.push(r / radius)
    }
    return [covered[0] <= 1 / radius ? 0 : covered[0], covered[covered.length - 1]]
  })
}

const direction = (k: number) => [Math.cos((2 * Math.PI * k) / ANGLES), Math.sin((2 * Math.PI * k) / ANGLES)]

function polarPath(reach: (k: number) => number, x: number, y: number): string {
  const points = Array.from({ length: ANGLES }, (_, k) => {
    const [dx, dy] = direction(k)
    return `${(x + reach(k) * dx).toFixed(2)},${(y + reach(k) * dy).toFixed(2)}`
  })
  return `M${points.join('L')}Z`
}

/** SVG: the mean, in every direction, of the two shapes' outlines. */
export async function morph(a: Shape, b: Shape, x: number, y: number, radius: number, paint: string): Promise<string> {
  const [first, second] = [await profileOf(a), await profileOf(b)]
  const [hole, rim] = [0, 1].map((end) => polarPath((k) => (radius * (first[k][end] + second[k][end])) / 2, x, y))
  return `<path fill="${paint}" fill-rule="evenodd" d="${rim}${hole}"/>`
}

/** SVG: an irregular outline, a circle with random waves of two to five periods. */
export function blob(random: Random, x: number, y: number, radius: number, paint: string): string {
  const waves = [2, 3, 4, 5].map((count) => ({ count, height: 0.12 + 0.13 * random(), phase: 2 * Math.PI * random() }))
  const wave = (k: number) =>
    waves.reduce(
      (sum, { count, height, phase }) => sum + height * Math.cos((count * 2 * Math.PI * k) / ANGLES + phase),
      1,
    )
  return `<path fill="${paint}" d="${polarPath((k) => radius * wave(k), x, y)}"/>`
}
