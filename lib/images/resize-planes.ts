import { resample, type Box, type FilterName } from './resample.js'

/**
 * How an image is brought to a size. 'cover': fills it, and what is left over on two sides is cut off equally. 'contain':
 * all of it is kept, with a border on two sides, equal but for an odd pixel. 'stretch': each side by itself, which distorts. 'none': only an image
 * that has the size already.
 */
export type ResizeMode = 'cover' | 'contain' | 'stretch' | 'none'

export const RESIZE_MODES: readonly ResizeMode[] = ['cover', 'contain', 'stretch', 'none']

/**
 * Brings bytes [height, width, channels] to a size.
 *
 * @param border one value per channel, for 'contain'
 *
 * Source: python-pillow/Pillow `src/PIL/ImageOps.py` (`fit`, `pad`).
 */
export function resizePlanes(
  data: Uint8Array,
  [height, width, channels]: readonly [number, number, number],
  [targetHeight, targetWidth]: readonly [number, number],
  mode: ResizeMode,
  filter: FilterName,
  border: readonly number[],
): Uint8Array {
  const from = [height, width, channels] as const
  if (mode !== 'contain') {
    const box = mode === 'cover' ? coveringBox(width, height, targetWidth, targetHeight) : undefined
    return resample(data, from, [targetHeight, targetWidth], filter, box)
  }
  const scale = Math.min(targetWidth / width, targetHeight / height)
  const inner = [Math.max(1, halfEven(height * scale)), Math.max(1, halfEven(width * scale))] as const
  const scaled = resample(data, from, inner, filter)
  const [top, left] = [halfEven((targetHeight - inner[0]) / 2), halfEven((targetWidth - inner[1]) / 2)]
  const padded = new Uint8Array(targetHeight * targetWidth * channels)
  for (let i = 0; i < padded.length; i++) padded[i] = border[i % channels]!
  const row = inner[1] * channels
  for (let y = 0; y < inner[0]; y++)
    padded.set(scaled.subarray(y * row, (y + 1) * row), ((top + y) * targetWidth + left) * channels)
  return padded
}

/** The largest box in the middle of an image that has the target's aspect. */
function coveringBox(width: number, height: number, targetWidth: number, targetHeight: number): Box {
  const [aspect, target] = [width / height, targetWidth / targetHeight]
  const boxWidth = aspect > target ? target * height : width
  const boxHeight = aspect < target ? width / target : height
  const [left, top] = [(width - boxWidth) / 2, (height - boxHeight) / 2]
  // Pillow takes them as float32
  return [Math.fround(left), Math.fround(top), Math.fround(left + boxWidth), Math.fround(top + boxHeight)]
}

/** Rounds as Python does: a half to the even neighbour. */
export function halfEven(x: number): number {
  const rounded = Math.round(x)
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}
