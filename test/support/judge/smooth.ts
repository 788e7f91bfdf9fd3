/** Median of every pixel and its 8 neighbours, per channel: takes noise away and leaves edges where they are. */
export function median3(rgb: Uint8Array, width: number, height: number): Uint8Array {
  const out = rgb.slice()
  const row = 3 * width
  const [low, middle, high] = [new Uint8Array(row), new Uint8Array(row), new Uint8Array(row)]
  // the border stays as it is
  for (let y = 1; y < height - 1; y++) {
    for (let i = 0, at = y * row; i < row; i++, at++) {
      const [above, here, below] = [rgb[at - row], rgb[at], rgb[at + row]]
      low[i] = Math.min(above, here, below)
      high[i] = Math.max(above, here, below)
      middle[i] = above + here + below - low[i] - high[i]
    }
    // of three columns that are sorted, the median is that of the largest low, the middle of the middles and the smallest high
    for (let i = 3; i < row - 3; i++) {
      out[y * row + i] = middleOf(
        Math.max(low[i - 3], low[i], low[i + 3]),
        middleOf(middle[i - 3], middle[i], middle[i + 3]),
        Math.min(high[i - 3], high[i], high[i + 3]),
      )
    }
  }
  return out
}

const middleOf = (a: number, b: number, c: number) => Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
