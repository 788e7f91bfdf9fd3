import type { RrdbConfig } from './layout.js'

/** A part of one side of an image, in cells: pixels of what the network reads. */
export interface Span {
  /** what is evaluated */
  first: number
  count: number
  /** what is kept of it: from `begin` to before `end`, counted from the side's beginning as well */
  begin: number
  end: number
}

/**
 * Cells at the border of a tile that are evaluated but not kept, because they lack neighbours. A network of 23 blocks
 * reads hundreds of pixels around each, but what dense blocks add is multiplied by 0.2 twice, so those farther away
 * count little: tiles differ from the whole by less than 1e-5 (relative L2).
 */
export const MARGIN = 32

/** Sides of what is kept of a tile in cells, tried in this order; memory grows with the square. */
export const CORES: readonly number[] = [320, 192, 128, 64, 32]

/**
 * Returns evenly placed spans of equal length that cover a side. Each cell is kept of a span in which it is at least
 * `margin` from an end that is not the side's.
 */
export function spans(length: number, core: number, margin: number = MARGIN): Span[] {
  const count = Math.min(length, core + 2 * margin)
  const parts = length > count ? Math.ceil((length - count) / core) + 1 : 1
  const first = (i: number) => (parts === 1 ? 0 : Math.floor((i * (length - count)) / (parts - 1)))
  // where two spans overlap, the middle divides them
  const middle = (i: number) => (first(i) + first(i + 1) + count) >> 1
  return Array.from({ length: parts }, (_, i) => ({
    first: first(i),
    count,
    begin: i === 0 ? 0 : middle(i - 1),
    end: i === parts - 1 ? length : middle(i),
  }))
}

/** The tiles of an image of this many cells, by the largest core. */
export function largestTiles(rows: number, columns: number): { rows: number; columns: number; count: number } {
  const [down, across] = [spans(rows, CORES[0]!), spans(columns, CORES[0]!)]
  return { rows: down[0]!.count, columns: across[0]!.count, count: down.length * across.length }
}

/** A pixel of an image in 0 to 1. */
export type ReadPixel = (channel: number, y: number, x: number) => number

/** The size of an image in pixels. */
interface Size {
  height: number
  width: number
}

/**
 * What the network reads of an image: squares of `unshuffle` pixels as channels [3, unshuffle, unshuffle, rows,
 * columns]. Beyond the edge, where the sides are no multiples, the image is mirrored. Source: XPixelGroup/BasicSR
 * `arch_util.py` (`pixel_unshuffle`), xinntao/Real-ESRGAN `utils.py` (`pre_process`).
 */
export function cellsOf(
  read: ReadPixel,
  { height, width }: Size,
  { unshuffle }: Pick<RrdbConfig, 'unshuffle'>,
  down: Span,
  across: Span,
): Float32Array {
  const cells = new Float32Array(3 * unshuffle ** 2 * down.count * across.count)
  let at = 0
  for (let channel = 0; channel < 3; channel++) {
    for (let inner = 0; inner < unshuffle ** 2; inner++) {
      const [top, left] = [Math.floor(inner / unshuffle), inner % unshuffle]
      for (let row = down.first; row < down.first + down.count; row++) {
        const y = mirrored(row * unshuffle + top, height)
        for (let column = across.first; column < across.first + across.count; column++)
          cells[at++] = read(channel, y, mirrored(column * unshuffle + left, width))
      }
    }
  }
  return cells
}

function mirrored(i: number, length: number): number {
  return i < length ? i : Math.max(0, 2 * length - 2 - i)
}
