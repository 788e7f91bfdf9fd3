import { OUTLINE_CELLS, OUTLINES, outlineCell, type Outline } from './outlines.js'
import { rasterize } from './raster.js'
import type { Mask } from './segments.js'
import { SHAPES, type Shape } from './world.js'

export interface SeenShape {
  shape: Shape | 'unknown'
  /** centre and radius in pixels of the picture */
  x: number
  y: number
  radius: number
  /** intersection over union with the best outline, and what it leads the next best by */
  overlap: number
  lead: number
  /** standard deviation of the blur of the edge / radius */
  blur: number
}

/** What the best outline has to reach: a true shape lies above 0.9, an irregular blob below 0.85. */
const OVERLAP = 0.86
/** What it has to lead the next by; one half way between two shapes leads by less. */
const LEAD = 0.045
/** Radius in pixels below which less is demanded, since a soft edge takes more from the corners of a smaller shape. */
const FULL_DEMANDS = 13
/** Part of a filled shape that may be a hole in it. */
const HOLE = 0.04
/** An edge softer than this is a glow and no outline. */
const BLUR = 0.3
/** So many outlines, the best at first sight, are fitted closely. */
const CLIMBING = 4
/** Width / height of a thing that is still the shape it would be at 1. */
const ASPECT = 1.2

/** Compares a mask with every outline at that outline's best scale and shift. */
export function seeShape(mask: Mask): SeenShape {
  const raster = rasterOf(mask)
  const byOverlap = (a: Fit, b: Fit) => b.overlap - a.overlap
  const starts = SHAPES.map((shape) => ({ shape, ...firstFit(raster, OUTLINES[shape]) })).sort(byOverlap)
  const [best, next] = starts
    .slice(0, CLIMBING)
    .map((fit) => ({ ...fit, ...climb(raster, OUTLINES[fit.shape], fit) }))
    .sort(byOverlap)
  const { area, perimeter } = OUTLINES[best.shape]
  const lead = best.overlap - next.overlap
  // over an edge that a Gaussian blurred, cover * (1 - cover) adds up to sigma / sqrt(pi) per length
  const blur = (softness(mask) * Math.sqrt(Math.PI) * area) / perimeter
  const demand = Math.min(1, (Math.sqrt(best.sx * best.sy) * raster.unit) / FULL_DEMANDS)
  const outlined = best.overlap >= OVERLAP - 0.1 * (1 - demand) && lead >= LEAD * demand
  const known = outlined && blur <= BLUR && (best.shape === 'ring' || holeOf(raster) <= HOLE)
  const { x, y, radius } = known ? { x: best.cx, y: best.cy, radius: Math.sqrt(best.sx * best.sy) } : discOf(raster)
  return {
    shape: known ? best.shape : 'unknown',
    x: mask.left + mask.width / 2 + x * raster.unit,
    y: mask.top + mask.height / 2 + y * raster.unit,
    radius: radius * raster.unit,
    overlap: best.overlap,
    lead,
    blur,
  }
}

/** A mask at one size whatever its own: CELLS x CELLS over a square around it, from -1 to 1. */
interface Raster {
  inside: Uint8Array
  /** cells inside */
  count: number
  mean: [x: number, y: number]
  spread: [x: number, y: number]
  /** pixels */
  unit: number
}

const CELLS = 48
const coordinate = (cell: number) => ((cell + 0.5) / CELLS) * 2 - 1

function rasterOf(mask: Mask): Raster {
  const unit = Math.max(mask.width, mask.height) / 2
  const covers = (x: number, y: number) =>
    bilinear(mask, mask.width / 2 + x * unit - 0.5, mask.height / 2 + y * unit - 0.5) >= 0.5
  const { raster: inside, count, centre: mean, spread } = rasterize(CELLS, coordinate, covers)
  return { inside, count, mean, spread, unit }
}

/** 0 outside. */
function bilinear({ cover, width, height }: Mask, x: number, y: number): number {
  const [x0, y0] = [Math.floor(x), Math.floor(y)]
  const [u, v] = [x - x0, y - y0]
  const at = (i: number, j: number) => (i >= 0 && j >= 0 && i < width && j < height ? cover[j * width + i] : 0)
  return (at(x0, y0) * (1 - u) + at(x0 + 1, y0) * u) * (1 - v) + (at(x0, y0 + 1) * (1 - u) + at(x0 + 1, y0 + 1) * u) * v
}

interface Fit {
  overlap: number
  cx: number
  cy: number
  sx: number
  sy: number
}

/** The outline where its mean and spread are the mask's. */
function firstFit(raster: Raster, outline: Outline): Fit {
  const [wide, high] = [0, 1].map((axis) => raster.spread[axis] / outline.spread[axis])
  const size = Math.sqrt(wide * high)
  const stretch = Math.sqrt(Math.min(ASPECT, Math.max(1 / ASPECT, wide / high)))
  const [sx, sy] = [size * stretch, size / stretch]
  const fit = { cx: raster.mean[0] - sx * outline.centre[0], cy: raster.mean[1] - sy * outline.centre[1], sx, sy }
  return { ...fit, overlap: overlapOf(raster, outline, fit) }
}

/** Moves, scales and stretches as long as that makes it better. */
function climb(raster: Raster, outline: Outline, { cx, cy, sx, sy, overlap }: Fit): Fit {
  let best = { cx, cy, sx, sy, overlap }
  for (const part of [0.05, 0.025]) {
    const step = part * Math.sqrt(sx * sy)
    for (const [cx, cy, across, down] of [
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 1, 1],
      [0, 0, 1, -1],
    ]) {
      for (const way of [step, -step]) {
        const { cx: x, cy: y, sx: w, sy: h } = best
        const moved = { cx: x + cx * way, cy: y + cy * way, sx: w + across * way, sy: h + down * way }
        if (Math.max(moved.sx / moved.sy, moved.sy / moved.sx) > ASPECT + 0.001) continue
        const overlap = overlapOf(raster, outline, moved)
        if (overlap > best.overlap) best = { ...moved, overlap }
      }
    }
  }
  return best
}

/** Columns of the outline's raster under the cells of a mask's. */
const columns = new Int16Array(CELLS)

/** Intersection over union. */
function overlapOf({ inside, count }: Raster, outline: Outline, { cx, cy, sx, sy }: Omit<Fit, 'overlap'>): number {
  for (let i = 0; i < CELLS; i++) columns[i] = outlineCell((coordinate(i) - cx) / sx)
  let [both, covered] = [0, 0]
  for (let j = 0; j < CELLS; j++) {
    const row = outlineCell((coordinate(j) - cy) / sy)
    if (row < 0) continue
    for (let i = 0; i < CELLS; i++) {
      if (columns[i] < 0 || !outline.raster[row * OUTLINE_CELLS + columns[i]]) continue
      covered++
      both += inside[j * CELLS + i]
    }
  }
  return both / (count + covered - both)
}

/** Part of the filled mask that is not inside and cannot be reached from the border. */
function holeOf({ inside, count }: Raster): number {
  const reached = inside.slice()
  const queue: number[] = []
  const reach = (cell: number) => {
    if (reached[cell]) return
    reached[cell] = 1
    queue.push(cell)
  }
  for (let i = 0; i < CELLS; i++)
    for (const cell of [i, CELLS * (CELLS - 1) + i, CELLS * i, CELLS * i + CELLS - 1]) reach(cell)
  for (let k = 0; k < queue.length; k++) {
    const [cell, column] = [queue[k], queue[k] % CELLS]
    if (column > 0) reach(cell - 1)
    if (column < CELLS - 1) reach(cell + 1)
    if (cell >= CELLS) reach(cell - CELLS)
    if (cell < CELLS * (CELLS - 1)) reach(cell + CELLS)
  }
  const hole = reached.reduce((sum, cell) => sum + Number(!cell), 0)
  return hole / (count + hole)
}

/** The disc of the same area around the centre of mass. */
function discOf({ mean, count }: Raster): { x: number; y: number; radius: number } {
  return { x: mean[0], y: mean[1], radius: Math.sqrt(count / Math.PI) * (2 / CELLS) }
}

/** Sum of cover * (1 - cover) / sum of cover, as if the outer half of the edge were like the inner one. */
function softness({ cover }: Mask): number {
  let [soft, area] = [0, 0]
  for (const value of cover) {
    if (value < 0.5) continue
    soft += 2 * value * (1 - value)
    area++
  }
  return soft / area
}
