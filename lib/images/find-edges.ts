/** 0: no edge, 1: an edge if it touches one, 2: an edge */
const [WEAK, EDGE] = [1, 2]

/** tan(22.5°) with 15 fraction bits */
const TAN_22 = 13573
const SHIFT = 15

/**
 * Canny's edge detector with 3 x 3 Sobel kernels and the L1 norm of the gradient. Of the three channels each pixel takes
 * the one with the largest gradient. Gradients are computed with replicated borders and are 0 outside.
 *
 * Source: opencv/opencv `modules/imgproc/src/canny.cpp` (`cv::Canny`), whose results are the same.
 *
 * @param rgb [height, width, 3]
 * @returns [height, width, 3], 0 or 255
 */
export function findEdges(rgb: Uint8Array, width: number, height: number, low: number, high: number): Uint8Array {
  const [weakest, strongest] = low <= high ? [Math.floor(low), Math.floor(high)] : [Math.floor(high), Math.floor(low)]
  const { dx, dy, norm } = gradients(rgb, width, height)
  const stride = width + 2
  // with a border of one pixel, like `norm`
  const map = new Uint8Array(norm.length)
  const edges: number[] = []
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (y + 1) * stride + x + 1
      if (norm[at]! <= weakest || !isLargest(norm, at, stride, dx[y * width + x]!, dy[y * width + x]!)) continue
      map[at] = norm[at]! > strongest ? EDGE : WEAK
      if (map[at] === EDGE) edges.push(at)
    }
  }
  while (edges.length > 0) {
    const at = edges.pop()!
    for (const row of [at - stride, at, at + stride])
      for (let neighbour = row - 1; neighbour <= row + 1; neighbour++)
        if (map[neighbour] === WEAK) {
          map[neighbour] = EDGE
          edges.push(neighbour)
        }
  }
  const found = new Uint8Array(width * height * 3)
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i += 3) if (map[(y + 1) * stride + x + 1] === EDGE) found.fill(255, i, i + 3)
  return found
}

interface Gradients {
  /** [height, width] */
  dx: Int16Array
  dy: Int16Array
  /** [height + 2, width + 2], the sum of the absolute values, with a border of 0 */
  norm: Int32Array
}

function gradients(rgb: Uint8Array, width: number, height: number): Gradients {
  const dx = new Int16Array(width * height)
  const dy = new Int16Array(width * height)
  const norm = new Int32Array((width + 2) * (height + 2))
  for (let y = 0, i = 0; y < height; y++) {
    const above = Math.max(y - 1, 0) * width
    const below = Math.min(y + 1, height - 1) * width
    for (let x = 0; x < width; x++, i++) {
      const left = Math.max(x - 1, 0)
      const right = Math.min(x + 1, width - 1)
      let largest = -1
      for (let c = 0; c < 3; c++) {
        const value = (row: number, column: number) => rgb[(row + column) * 3 + c]!
        const [topLeft, topRight] = [value(above, left), value(above, right)]
        const [bottomLeft, bottomRight] = [value(below, left), value(below, right)]
        const row = y * width
        const across = topRight - topLeft + 2 * (value(row, right) - value(row, left)) + bottomRight - bottomLeft
        const down = bottomLeft - topLeft + 2 * (value(below, x) - value(above, x)) + bottomRight - topRight
        const sum = Math.abs(across) + Math.abs(down)
        if (sum <= largest) continue
        largest = sum
        dx[i] = across
        dy[i] = down
      }
      norm[(y + 1) * (width + 2) + x + 1] = largest
    }
  }
  return { dx, dy, norm }
}

/** Whether a gradient is the largest along its direction, which is rounded to a multiple of 45°. */
function isLargest(norm: Int32Array, at: number, stride: number, dx: number, dy: number): boolean {
  const value = norm[at]!
  const x = Math.abs(dx)
  const y = Math.abs(dy) * 2 ** SHIFT
  const tan22 = x * TAN_22
  if (y < tan22) return value > norm[at - 1]! && value >= norm[at + 1]!
  // tan(67.5°) = tan(22.5°) + 2
  if (y > tan22 + x * 2 ** (SHIFT + 1)) return value > norm[at - stride]! && value >= norm[at + stride]!
  const diagonal = (dx ^ dy) < 0 ? stride - 1 : stride + 1
  return value > norm[at - diagonal]! && value > norm[at + diagonal]!
}
