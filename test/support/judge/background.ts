import { nearestBackground, rgbDistance } from './colors.js'
import type { BackgroundName, Direction, Rgb } from './world.js'

export interface SeenBackground {
  /** one, or the two ends of a gradient: upper or left first; none where the border is not of one piece */
  names: BackgroundName[]
  /** of a gradient */
  direction: Direction | null
}

export interface BackgroundFit extends SeenBackground {
  /** [height, width, 3]: the colour that the background has, or would have, at every pixel */
  pixels: Float32Array
}

/** A colour that changes linearly over the picture: value + across * u + down * v with u, v in -1/2 to 1/2. */
interface Plane {
  value: Rgb
  across: Rgb
  down: Rgb
}

/** Border pixels farther than this from the plane do not count for it. */
const OUTLIER = 40
/** Ends of a gradient are at least 60 apart; less than this is a plain background. */
const DRIFT = 36
/** Part of the border that has to follow the plane. */
const FOLLOWING = 0.6

/**
 * Fits a plane to the pixels on the picture's border: by least absolute deviations, which a thing that reaches the border cannot pull
 * away, and then by least squares of the pixels near that plane.
 */
export function fitBackground(rgb: Uint8Array, width: number, height: number): BackgroundFit {
  const border = borderPixels(width, height)
  const weights = new Float64Array(border.length).fill(1)
  const residuals = new Float64Array(border.length)
  let plane!: Plane
  for (let round = 0; round < 12; round++) {
    plane = fitPlane(rgb, width, height, border, weights)
    border.forEach((pixel, i) => {
      residuals[i] = rgbDistance(at(plane, ...place(pixel, width, height)), [
        rgb[3 * pixel],
        rgb[3 * pixel + 1],
        rgb[3 * pixel + 2],
      ])
      weights[i] = round < 8 ? 1 / (residuals[i] + 2) : Math.max(0.001, 1 - (residuals[i] / OUTLIER) ** 2)
    })
  }
  const following = residuals.filter((residual) => residual < OUTLIER).length / border.length
  const pixels = new Float32Array(width * height * 3)
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [u, v] = [x / (width - 1) - 0.5, y / (height - 1) - 0.5]
      for (let c = 0; c < 3; c++) pixels[i++] = plane.value[c] + plane.across[c] * u + plane.down[c] * v
    }
  }
  return { ...(following < FOLLOWING ? { names: [], direction: null } : named(plane)), pixels }
}

function named({ value, across, down }: Plane): SeenBackground {
  const right = Math.hypot(...across) > Math.hypot(...down)
  const slope = right ? across : down
  const ends = [-0.5, 0.5].map(
    (u) => [value[0] + slope[0] * u, value[1] + slope[1] * u, value[2] + slope[2] * u] as const,
  )
  if (rgbDistance(ends[0], ends[1]) < DRIFT) return { names: [nearestBackground(value)], direction: null }
  return { names: ends.map(nearestBackground), direction: right ? 'right' : 'down' }
}

function borderPixels(width: number, height: number): number[] {
  const depth = Math.max(2, Math.round(Math.min(width, height) * 0.02))
  const pixels: number[] = []
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (Math.min(x, y, width - 1 - x, height - 1 - y) < depth) pixels.push(y * width + x)
    }
  }
  return pixels
}

function place(pixel: number, width: number, height: number): [u: number, v: number] {
  const x = pixel % width
  return [x / (width - 1) - 0.5, (pixel - x) / width / (height - 1) - 0.5]
}

function at({ value, across, down }: Plane, u: number, v: number): Rgb {
  return [
    value[0] + across[0] * u + down[0] * v,
    value[1] + across[1] * u + down[1] * v,
    value[2] + across[2] * u + down[2] * v,
  ]
}

/** Weighted least squares by the normal equations of (1, u, v), per channel. */
function fitPlane(rgb: Uint8Array, width: number, height: number, pixels: number[], weights: Float64Array): Plane {
  // upper triangle of the symmetric matrix: 11, 1u, 1v, uu, uv, vv
  const m = new Float64Array(6)
  // [channel, (1, u, v)]
  const right = new Float64Array(9)
  pixels.forEach((pixel, i) => {
    const [u, v] = place(pixel, width, height)
    const w = weights[i]
    const terms = [w, w * u, w * v, w * u * u, w * u * v, w * v * v]
    for (let k = 0; k < 6; k++) m[k] += terms[k]
    for (let c = 0; c < 3; c++) for (let k = 0; k < 3; k++) right[3 * c + k] += terms[k] * rgb[3 * pixel + c]
  })
  const [a, b, c, d, e, f] = m as unknown as [number, number, number, number, number, number]
  // rows of the adjugate of [[a b c] [b d e] [c e f]]
  const adjugate = [
    [d * f - e * e, c * e - b * f, b * e - c * d],
    [c * e - b * f, a * f - c * c, b * c - a * e],
    [b * e - c * d, b * c - a * e, a * d - b * b],
  ] as const
  const determinant = a * adjugate[0][0] + b * adjugate[0][1] + c * adjugate[0][2]
  const solve = (row: Rgb, channel: number) =>
    row.reduce((sum, value, k) => sum + value * right[3 * channel + k], 0) / determinant
  const [value, across, down] = adjugate.map((row) => [solve(row, 0), solve(row, 1), solve(row, 2)] as const)
  return { value: value!, across: across!, down: down! }
}
