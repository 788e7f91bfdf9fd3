export interface Size {
  width: number
  height: number
}

const RATIOS = [
  [1, 1],
  [5, 4],
  [4, 3],
  [3, 2],
  [16, 9],
  [21, 9],
] as const

/** Sizes of usual aspects, in multiples of 16, with about as many pixels as the model draws by default. */
export function aspectSizes({ width, height }: Size, isPortrait: boolean): (Size & { name: string })[] {
  const area = width * height
  return RATIOS.map(([long, short]) => {
    const most = toMultiple(Math.sqrt((area * long) / short))
    const least = toMultiple(Math.sqrt((area * short) / long))
    return isPortrait
      ? { name: `${short}:${long}`, width: least, height: most }
      : { name: `${long}:${short}`, width: most, height: least }
  })
}

const toMultiple = (side: number) => Math.min(4096, Math.max(64, Math.round(side / 16) * 16))
