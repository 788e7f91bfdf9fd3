import { encodeImage, type ImageFormat } from '../images/encode.js'
import { readImage } from '../images/read-image.js'
import { resizeImage } from '../images/resize.js'
import type { JobPreview } from '../queue/queue.js'

/** A preview as a file of the size that the image will have. */
export async function fullSize(
  { data }: JobPreview,
  { width, height, format }: { width: number; height: number; format: ImageFormat },
): Promise<Buffer> {
  const small = await readImage(Buffer.from(data, 'base64'))
  const large = await resizeImage(small, width, height, 'stretch')
  return encodeImage(large.data, width, height, { format })
}
