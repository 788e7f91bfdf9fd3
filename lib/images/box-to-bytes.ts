/** A rectangle of an image in pixels, which is a part of a tile. */
export interface Box {
  /** in the image */
  top: number
  left: number
  height: number
  width: number
  /** the same in the tile, and the tile's size */
  partTop: number
  partLeft: number
  partHeight: number
  partWidth: number
}

/**
 * Converts a rectangle of planes [3, partHeight, partWidth] in 0 to 1 to bytes [height, width, 3], rounded; values
 * outside are clamped, NaN gives 0. Source: xinntao/Real-ESRGAN `realesrgan/utils.py` (`enhance`).
 */
export function boxToBytes(planes: Float32Array, box: Box): Uint8Array<ArrayBuffer> {
  const { height, width, partTop, partLeft, partHeight, partWidth } = box
  const bytes = new Uint8ClampedArray(3 * height * width)
  const plane = partHeight * partWidth
  for (let y = 0, at = 0; y < height; y++) {
    const row = (partTop + y) * partWidth + partLeft
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) bytes[at++] = 255 * planes[channel * plane + row + x]!
    }
  }
  return new Uint8Array(bytes.buffer)
}
