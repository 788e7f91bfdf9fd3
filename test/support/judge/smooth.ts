/** Median of every pixel and its 8 neighbours, per channel: takes noise away and leaves edges where they are. */
export function median3(rgb: Uint8Array, width: number, height: number): Uint8Array {
  const out = rgb.slice()
  const row = 3 * width
  // the border stays as it is
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * row + 3; i < (y + 1) * row - 3; i++) out[i] = median9(rgb, i, row)
  }
  return out
}

/** Exchanges after which the middle of nine is the median (Paeth, Graphics Gems, 1990). */
const EXCHANGES = Uint8Array.of(
  1,
  2,
  4,
  5,
  7,
  8,
  0,
  1,
  3,
  4,
  6,
  7,
  1,
  2,
  4,
  5,
  7,
  8,
  0,
  3,
  5,
  8,
  4,
  7,
  3,
  6,
  1,
  4,
  2,
  5,
  4,
  7,
  4,
  2,
  6,
  4,
  4,
  2,
)

const window = new Uint8Array(9)

function median9(values: Uint8Array, at: number, row: number): number {
  for (let k = 0, line = at - row; k < 9; k += 3, line += row) {
    window[k] = values[line - 3]
    window[k + 1] = values[line]
    window[k + 2] = values[line + 3]
  }
  for (let k = 0; k < EXCHANGES.length; k += 2) {
    const a = window[EXCHANGES[k]]
    const b = window[EXCHANGES[k + 1]]
    if (a > b) {
      window[EXCHANGES[k]] = b
      window[EXCHANGES[k + 1]] = a
    }
  }
  return window[4]
}
