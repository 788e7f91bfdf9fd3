import type { BackgroundFit } from './background.js'
import { rgbDistance } from './colors.js'
import { median3 } from './smooth.js'
import type { Rgb } from './world.js'

/** How much of every pixel a thing covers, 0 to 1, cut out of the picture. */
export interface Mask {
  /** [height, width] */
  cover: Float32Array
  width: number
  height: number
  /** the upper left pixel's place in the picture */
  left: number
  top: number
}

export interface Segment {
  color: Rgb
  mask: Mask
}

/** Pixels nearer to the background than this belong to it; a thing is 105 away, an edge half of that. */
const FOREGROUND = 40
/** Between the two neighbours of a pixel inside a thing the colour changes less than this. */
const FLAT = 30
/** Regions that touch and are nearer than this are one thing; different colours are at least 78 apart. */
const SAME = 45
/** Part of the squared shorter side below which a region is a speck; the smallest thing has 0.023. */
const SPECK = 0.004
/** Pixels around a region's box in which its soft edge may lie. */
const EDGE = 2

/**
 * Takes the things out of a picture. Flat patches of foreground are the cores of things; each grows over its edge as far as a pixel is
 * nearer to the core's colour than to the background, so that the outline lies where the edge is half way whatever its softness, and
 * a mixed colour at an edge, which may be the name of another colour, never becomes a thing.
 */
export function segments(rgb: Uint8Array, width: number, height: number, background: BackgroundFit): Segment[] {
  const smooth = median3(rgb, width, height)
  const cores = flatPatches(smooth, width, height, background.pixels)
  const labels = grow(rgb, width, height, background.pixels, cores.labels, cores.colors)
  merge(labels, width, cores.colors)
  const smallest = SPECK * Math.min(width, height) ** 2
  return boxes(labels, width, cores.colors.length)
    .map(({ label, count, ...box }) => ({ label, count, box }))
    .filter(({ count }) => count >= smallest)
    .map(({ label, box }) => {
      const color = medianColor(
        smooth,
        pixelsWhere(cores.labels, (core) => core >= 0 && labels.root[core] === label),
      )
      return { color, mask: cutOut(rgb, width, height, background.pixels, labels, label, color, box) }
    })
}

/** -1: background or not yet known; else an index of `colors`. */
interface Patches {
  labels: Int32Array
  colors: Rgb[]
}

function flatPatches(rgb: Uint8Array, width: number, height: number, ground: Float32Array): Patches {
  const flat = new Uint8Array(width * height)
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x
      if (distanceOf(rgb, i, ground, i) <= FOREGROUND) continue
      flat[i] = Number(distanceOf(rgb, i - 1, rgb, i + 1) < FLAT && distanceOf(rgb, i - width, rgb, i + width) < FLAT)
    }
  }
  const labels = new Int32Array(width * height).fill(-1)
  const colors: Rgb[] = []
  const fewest = Math.max(4, 0.0008 * Math.min(width, height) ** 2)
  for (let start = 0; start < flat.length; start++) {
    if (!flat[start] || labels[start] !== -1) continue
    const pixels = [start]
    labels[start] = colors.length
    for (let k = 0; k < pixels.length; k++) {
      for (const next of [pixels[k] - 1, pixels[k] + 1, pixels[k] - width, pixels[k] + width]) {
        if (!flat[next] || labels[next] !== -1 || distanceOf(rgb, pixels[k], rgb, next) >= FLAT) continue
        labels[next] = colors.length
        pixels.push(next)
      }
    }
    if (pixels.length >= fewest) colors.push(medianColor(rgb, pixels))
    else for (const pixel of pixels) labels[pixel] = -2
  }
  return { labels: labels.map((label) => Math.max(-1, label)), colors }
}

interface Labels {
  /** of every pixel, -1 for none */
  of: Int32Array
  /** of every label the one that it was merged into */
  root: number[]
}

/** Breadth first from all cores at once. */
function grow(
  rgb: Uint8Array,
  width: number,
  height: number,
  ground: Float32Array,
  cores: Int32Array,
  colors: Rgb[],
): Labels {
  const of = cores.slice()
  const queue = pixelsWhere(cores, (label) => label >= 0)
  for (let k = 0; k < queue.length; k++) {
    const pixel = queue[k]
    const x = pixel % width
    const color = colors[of[pixel]]
    for (const [next, inside] of [
      [pixel - 1, x > 0],
      [pixel + 1, x < width - 1],
      [pixel - width, pixel >= width],
      [pixel + width, pixel < (height - 1) * width],
    ] as const) {
      if (!inside || of[next] !== -1) continue
      if (rgbDistance(colorAt(rgb, next), color) >= distanceOf(rgb, next, ground, next)) continue
      of[next] = of[pixel]
      queue.push(next)
    }
  }
  return { of, root: colors.map((_, label) => label) }
}

/** Makes one label of those that touch and have about the same colour. */
function merge(labels: Labels, width: number, colors: Rgb[]): void {
  const { of, root } = labels
  for (let i = 0; i < of.length; i++) {
    for (const next of [i % width < width - 1 ? i + 1 : i, i + width < of.length ? i + width : i]) {
      if (of[i] < 0 || of[next] < 0) continue
      const [a, b] = [root[of[i]], root[of[next]]]
      if (a === b || rgbDistance(colors[of[i]], colors[of[next]]) >= SAME) continue
      root.forEach((value, label) => (root[label] = value === b ? a : value))
    }
  }
}

interface Box {
  left: number
  top: number
  right: number
  bottom: number
}

function boxes({ of, root }: Labels, width: number, count: number): (Box & { label: number; count: number })[] {
  const found = Array.from({ length: count }, (_, label) => ({
    label,
    count: 0,
    left: Infinity,
    top: Infinity,
    right: -1,
    bottom: -1,
  }))
  of.forEach((label, i) => {
    if (label < 0) return
    const box = found[root[label]]
    const [x, y] = [i % width, Math.floor(i / width)]
    box.count++
    box.left = Math.min(box.left, x)
    box.right = Math.max(box.right, x)
    box.top = Math.min(box.top, y)
    box.bottom = Math.max(box.bottom, y)
  })
  return found
}

function cutOut(
  rgb: Uint8Array,
  width: number,
  height: number,
  ground: Float32Array,
  { of, root }: Labels,
  label: number,
  color: Rgb,
  box: Box,
): Mask {
  const [left, top] = [Math.max(0, box.left - EDGE), Math.max(0, box.top - EDGE)]
  const [right, bottom] = [Math.min(width - 1, box.right + EDGE), Math.min(height - 1, box.bottom + EDGE)]
  const [wide, high] = [right - left + 1, bottom - top + 1]
  const mask = { cover: new Float32Array(wide * high), width: wide, height: high, left, top }
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const i = y * width + x
      const inside = of[i] >= 0 && root[of[i]] === label
      if (of[i] >= 0 && !inside) continue
      const cover = coverAt(rgb, ground, i, color)
      mask.cover[(y - top) * wide + x - left] = inside ? Math.max(0.51, cover) : Math.min(0.49, cover)
    }
  }
  return mask
}

/** Where the pixel lies on the way from the background's colour to the thing's. */
function coverAt(rgb: Uint8Array, ground: Float32Array, i: number, color: Rgb): number {
  let [along, length] = [0, 0]
  for (let c = 0; c < 3; c++) {
    const way = color[c] - ground[3 * i + c]
    along += (rgb[3 * i + c] - ground[3 * i + c]) * way
    length += way * way
  }
  return Math.min(1, Math.max(0, along / length))
}

const colorAt = (rgb: Uint8Array, i: number): Rgb => [rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]]

function distanceOf(a: Uint8Array, i: number, b: Uint8Array | Float32Array, j: number): number {
  const red = a[3 * i] - b[3 * j]
  const green = a[3 * i + 1] - b[3 * j + 1]
  const blue = a[3 * i + 2] - b[3 * j + 2]
  return Math.sqrt(red * red + green * green + blue * blue)
}

function pixelsWhere(labels: Int32Array, wanted: (label: number) => boolean): number[] {
  const pixels: number[] = []
  labels.forEach((label, i) => wanted(label) && pixels.push(i))
  return pixels
}

function medianColor(rgb: Uint8Array, pixels: number[]): Rgb {
  const middle = (c: number) => Uint8Array.from(pixels, (pixel) => rgb[3 * pixel + c]).sort()[pixels.length >> 1]
  return [middle(0), middle(1), middle(2)]
}
