import { FluxError } from '../errors.js'
import { readPngHeader } from './decode-png.js'
import { EXIF_TAG, readExif } from './exif.js'
import { requireFewPixels, readImageFile } from './image-file.js'
import { loadSharp } from './load-sharp.js'
import { pngChunks } from './png-chunks.js'

/**
 * Reads the size of an image, upright as `readImage` returns it, from its header: no pixel is decoded.
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
      const { isTurned, hasTransparency } = beforePixels(bytes)
      const hasAlpha = colourType === 4 || colourType === 6 || hasTransparency
      return isTurned ? { width: height, height: width, hasAlpha } : { width, height, hasAlpha }
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

/** What the chunks of a PNG say besides the header. */
function beforePixels(bytes: Uint8Array): { isTurned: boolean; hasTransparency: boolean } {
  const found = { isTurned: false, hasTransparency: false }
  for (const { type, data } of pngChunks(bytes)) {
    if (type === 'tRNS') found.hasTransparency = true
    // orientations from 5 on swap the sides
    if (type === 'IDAT') break
    if (type === 'eXIf') found.isTurned = (readExif(data).number(EXIF_TAG.orientation) ?? 1) >= 5
  }
  return found
}
