import { rasterize } from './raster.js'
import type { Shape } from './world.js'

export type Point = readonly [x: number, y: number]

/** A shape of radius 1 around (0, 0), y downward. */
export interface Outline {
  area: number
  perimeter: number
  centre: Point
  /** standard deviation of x and of y over the area */
  spread: Point
  /** [OUTLINE_CELLS, OUTLINE_CELLS]: 1 where it covers the cell */
  raster: Uint8Array
}

const turn = (count: number, radius: (i: number) => number): Point[] =>
  Array.from({ length: count }, (_, i) => {
    const angle = 2 * Math.PI * (i / count - 0.25)
    return [radius(i) * Math.cos(angle), radius(i) * Math.sin(angle)]
  })

const heart = (): Point[] =>
  Array.from({ length: 80 }, (_, i) => {
    const t = (2 * Math.PI * i) / 80
    const y = 13 * Math.cos(t) - 5 * Math.cos(2 * t) - 2 * Math.cos(3 * t) - Math.cos(4 * t)
    return [1.12 * Math.sin(t) ** 3, (1.12 * (2.5 - y)) / 16]
  })

/** Closed polygons; what an even number of them covers is a hole. */
const POLYGONS: Record<Shape, Point[][]> = {
  circle: [turn(64, () => 1)],
  square: [
    [
      [-0.9, -0.9],
      [0.9, -0.9],
      [0.9, 0.9],
      [-0.9, 0.9],
    ],
  ],
  triangle: [turn(3, () => 1.25).map(([x, y]) => [x, y + 0.2])],
  star: [turn(10, (i) => (i % 2 ? 0.5 : 1.25))],
  ring: [turn(64, () => 1.05), turn(64, () => 0.58)],
  cross: [
    [
      [-0.34, -1.05],
      [0.34, -1.05],
      [0.34, -0.34],
      [1.05, -0.34],
      [1.05, 0.34],
      [0.34, 0.34],
      [0.34, 1.05],
      [-0.34, 1.05],
      [-0.34, 0.34],
      [-1.05, 0.34],
      [-1.05, -0.34],
      [-0.34, -0.34],
    ],
  ],
  heart: [heart()],
  diamond: [
    [
      [0, -1.25],
      [0.95, 0],
      [0, 1.25],
      [-0.95, 0],
    ],
  ],
}

export const OUTLINE_CELLS = 168
/** The raster reaches from -REACH to REACH. */
const REACH = 1.4

/** Row or column of the raster that a coordinate lies in, -1 outside. */
export function outlineCell(coordinate: number): number {
  const cell = Math.floor(((coordinate + REACH) / (2 * REACH)) * OUTLINE_CELLS)
  return cell >= 0 && cell < OUTLINE_CELLS ? cell : -1
}

function outline(polygons: Point[][]): Outline {
  const middle = (k: number) => ((k + 0.5) / OUTLINE_CELLS) * 2 * REACH - REACH
  const { raster, count, centre, spread } = rasterize(OUTLINE_CELLS, middle, (x, y) => crossings(polygons, x, y))
  const edges = polygons.flatMap((points) =>
    points.map((point, i) => [point, points[(i + 1) % points.length]] as const),
  )
  return {
    area: count * ((2 * REACH) / OUTLINE_CELLS) ** 2,
    perimeter: edges.reduce((sum, [a, b]) => sum + Math.hypot(a[0] - b[0], a[1] - b[1]), 0),
    centre,
    spread,
    raster,
  }
}

/** Whether a ray from the point to the right crosses an odd number of edges. */
function crossings(polygons: Point[][], x: number, y: number): boolean {
  let odd = false
  for (const points of polygons) {
    points.forEach(([x0, y0], i) => {
      const [x1, y1] = points[(i + 1) % points.length]
      if (y0 > y !== y1 > y && x < x0 + ((x1 - x0) * (y - y0)) / (y1 - y0)) odd = !odd
    })
  }
  return odd
}

export const OUTLINES = Object.fromEntries(
  Object.entries(POLYGONS).map(([shape, polygons]) => [shape, outline(polygons)]),
) as Record<Shape, Outline>
