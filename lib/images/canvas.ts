/** Bytes of one or more channels, row by row: RGB pixels or a mask. */
interface Raster {
  data: Uint8Array
  width: number
  height: number
}

const channelsOf = ({ data, width, height }: Raster): number => data.length / (width * height)

/**
 * Adds pixels at the sides of an image.
 *
 * @param fill the value of all added bytes. @default the nearest pixel of the image
 */
export function extendPixels(
  image: Raster,
  { left, top, right, bottom }: { left: number; top: number; right: number; bottom: number },
  fill?: number,
): Raster {
  const channels = channelsOf(image)
  const [width, height] = [image.width + left + right, image.height + top + bottom]
  const data = new Uint8Array(width * height * channels)
  const clamp = (value: number, length: number) => Math.min(Math.max(value, 0), length - 1)
  for (let y = 0, i = 0; y < height; y++) {
    const fromY = clamp(y - top, image.height)
    for (let x = 0; x < width; x++, i += channels) {
      const fromX = clamp(x - left, image.width)
      const inside = fromX === x - left && fromY === y - top
      const from = (fromY * image.width + fromX) * channels
      for (let c = 0; c < channels; c++) data[i + c] = inside || fill === undefined ? image.data[from + c]! : fill
    }
  }
  return { data, width, height }
}
