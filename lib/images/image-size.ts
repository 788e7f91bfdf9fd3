import { FluxError } from '../errors.js'
import { readPngHeader } from './decode-png.js'
import { requireFewPixels, readImageFile } from './image-file.js'
import { loadSharp } from './load-sharp.js'
import { pngChunks } from './png-chunks.js'

/**
 * Reads an image's size from its header, without decoding the pixels. A camera's turned photo has its sides swapped
 * here, where that matters: the size is that of the upright image.
 *
 * @param maxPixels limit of width times height
 * @throws FluxError as `readImage`
 */
export async function readImageSize(
  name: string,
  source: Uint8Array,
  maxPixels: number,
): Promise<{ width: number; height: number; hasAlpha: boolean }> {
  const { bytes, type, what } = await readImageFile(name, source)
  try {
    if (type === 'PNG') {
      const [first] = pngChunks(bytes)
      if (first?.type !== 'IHDR') throw new Error('it does not begin with a header')
      const { width, height, colourType } = readPngHeader(first.data)
      requireFewPixels(what, width, height, maxPixels)
      return { width, height, hasAlpha: colourType === 4 || colourType === 6 || hasTransparency(bytes) }
    }
    const sharp = await loadSharp(`${what} (${type})`, 'give a PNG file')
    const { autoOrient, hasAlpha = false } = await sharp(bytes, { limitInputPixels: false }).metadata()
    requireFewPixels(what, autoOrient.width, autoOrient.height, maxPixels)
    return { ...autoOrient, hasAlpha }
  } catch (cause) {
    if (cause instanceof FluxError) throw cause
    throw new FluxError('FLUX_BAD_FILE', `${what} is damaged (${(cause as Error).message}): give another file`, {
      cause,
    })
  }
}

function hasTransparency(bytes: Uint8Array): boolean {
  for (const { type } of pngChunks(bytes)) {
    if (type === 'tRNS') return true
    if (type === 'IDAT') break
  }
  return false
}
