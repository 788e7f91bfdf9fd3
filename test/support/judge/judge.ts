import { fitBackground, type SeenBackground } from './background.js'
import { nearestColor } from './colors.js'
import { segments, type Mask, type Segment } from './segments.js'
import { seeShape, type SeenShape } from './shape.js'
import type { ColorName, Shape } from './world.js'

export interface SeenThing {
  shape: Shape | 'unknown'
  color: ColorName
  /** radius / shorter side */
  size: number
  /** centre as parts of width and height */
  x: number
  y: number
}

export interface Seen {
  width: number
  height: number
  background: SeenBackground
  /** the largest first */
  things: SeenThing[]
}

/** Says what a picture of the tiny model's world shows. `rgb` is [height, width, 3]. */
export function judge(rgb: Uint8Array, width: number, height: number): Seen {
  const { names, direction, ...fit } = fitBackground(rgb, width, height)
  const things = segments(rgb, width, height, { names, direction, ...fit }).flatMap((segment) =>
    shapesOf(segment).map(({ shape, x, y, radius }) => ({
      shape,
      color: nearestColor(segment.color),
      size: radius / Math.min(width, height),
      x: x / width,
      y: y / height,
    })),
  )
  return { width, height, background: { names, direction }, things: things.sort((a, b) => b.size - a.size) }
}

/** Two things of one colour may touch: a segment that is no shape, and is two where it is cut at a neck, is these. */
function shapesOf({ mask }: Segment): SeenShape[] {
  const whole = seeShape(mask)
  if (whole.shape !== 'unknown') return [whole]
  const worst = (parts: SeenShape[]) =>
    Math.min(...parts.map(({ shape, overlap }) => (shape === 'unknown' ? 0 : overlap)))
  const cuts = [...cutsAtNecks(mask)].map((parts) => parts.map(seeShape)).sort((a, b) => worst(b) - worst(a))
  return cuts.length && worst(cuts[0]) > 0 ? cuts[0] : [whole]
}

/** Cuts across the longer side, wherever the mask is thinner than around; none where it is not long enough for two. */
function* cutsAtNecks(mask: Mask): Generator<[Mask, Mask]> {
  const { cover, width, height } = mask
  const lying = width > height
  const [length, across] = lying ? [width, height] : [height, width]
  if (length < 1.35 * across) return
  const thickness = new Float32Array(length)
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) thickness[lying ? x : y] += cover[y * width + x]
  const around = Math.ceil(0.06 * length)
  for (let k = Math.ceil(0.2 * length); k < 0.8 * length; k++) {
    if (thickness[k] > Math.min(...thickness.subarray(k - around, k + around + 1))) continue
    yield lying
      ? [crop(mask, 0, 0, k, height), crop(mask, k, 0, width, height)]
      : [crop(mask, 0, 0, width, k), crop(mask, 0, k, width, height)]
  }
}

function crop(mask: Mask, x0: number, y0: number, x1: number, y1: number): Mask {
  const cover = new Float32Array((x1 - x0) * (y1 - y0))
  for (let y = y0; y < y1; y++)
    cover.set(mask.cover.subarray(y * mask.width + x0, y * mask.width + x1), (y - y0) * (x1 - x0))
  return { cover, width: x1 - x0, height: y1 - y0, left: mask.left + x0, top: mask.top + y0 }
}
