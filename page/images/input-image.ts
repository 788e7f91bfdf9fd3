/** An image that is drawn from, as a PNG that the server reads as the browser does. */
export interface InputImage {
  file: Blob
  width: number
  height: number
  /** it had more pixels than the server takes */
  wasReduced: boolean
}

/**
 * Makes a PNG of any image that the browser can show. The pixels of a photo are turned as its EXIF says, so that a mask painted over it
 * fits. A PNG within the limit is taken as it is.
 *
 * @param mostPixels the server's limit
 */
export async function readInputImage(file: Blob, mostPixels: number): Promise<InputImage> {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error('This file is no image that the browser can show. Use a PNG, JPEG or WebP.')
  })
  const { width, height } = bitmap
  const scale = Math.min(1, Math.sqrt(mostPixels / (width * height)))
  if (scale === 1 && file.type === 'image/png') return { file, width, height, wasReduced: false }
  const canvas = new OffscreenCanvas(Math.floor(width * scale), Math.floor(height * scale))
  const context = canvas.getContext('2d')!
  context.imageSmoothingQuality = 'high'
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height)
  bitmap.close()
  return { file: await canvas.convertToBlob(), width: canvas.width, height: canvas.height, wasReduced: scale < 1 }
}
