/** A shape on a square grid, and where it lies there. */
export interface Cells {
  /** [side, side]: 1 where the shape covers the cell's middle */
  raster: Uint8Array
  count: number
  centre: [x: number, y: number]
  /** standard deviation of x and of y over the covered cells */
  spread: [x: number, y: number]
}

/** @param coordinate of the middle of a cell's column or row */
export function rasterize(
  side: number,
  coordinate: (cell: number) => number,
  covers: (x: number, y: number) => boolean,
): Cells {
  const raster = new Uint8Array(side * side)
  let [n, sx, sy, sxx, syy] = [0, 0, 0, 0, 0]
  for (let j = 0; j < side; j++) {
    for (let i = 0; i < side; i++) {
      const [x, y] = [coordinate(i), coordinate(j)]
      if (!covers(x, y)) continue
      raster[j * side + i] = 1
      n++
      sx += x
      sy += y
      sxx += x * x
      syy += y * y
    }
  }
  const [mx, my] = [sx / n, sy / n]
  return { raster, count: n, centre: [mx, my], spread: [Math.sqrt(sxx / n - mx * mx), Math.sqrt(syy / n - my * my)] }
}
