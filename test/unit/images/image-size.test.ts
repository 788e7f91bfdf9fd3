import sharp from 'sharp'
import { expect, test } from 'vitest'
import { readImageSize } from '../../../lib/images/image-size.js'
import { readImage } from '../../../lib/images/read-image.js'

const plain = (channels: 3 | 4) => sharp({ create: { width: 40, height: 24, channels, background: '#8040c0' } })

test.each(['png', 'jpeg', 'webp', 'avif', 'gif'] as const)(
  '%s: as the image has it when it is read',
  async (format) => {
    for (const orientation of [1, 3, 6, 8]) {
      const bytes = await plain(3).withMetadata({ orientation }).toFormat(format).toBuffer()
      const { width, height } = await readImage(bytes)
      expect(await readImageSize('image', bytes, 1000)).toMatchObject({
        width,
        height,
        ...(format === 'gif' ? {} : { hasAlpha: false }),
      })
    }
  },
)

test('alpha: a channel, or a transparent colour of a palette', async () => {
  const channel = await plain(4).png().toBuffer()
  const palette = await sharp({ create: { width: 8, height: 8, channels: 4, background: '#ff000000' } })
    .png({ palette: true })
    .toBuffer()
  for (const bytes of [channel, palette])
    expect(await readImageSize('image', bytes, 1000)).toMatchObject({ hasAlpha: true })
})

test('too many pixels, damaged files, and what is no image are refused', async () => {
  const bytes = await plain(3).png().toBuffer()
  await expect(readImageSize('image', bytes, 959)).rejects.toMatchObject({ code: 'FLUX_UNSUPPORTED' })
  await expect(readImageSize('image', bytes.subarray(0, 20), 1000)).rejects.toMatchObject({ code: 'FLUX_BAD_FILE' })
  await expect(readImageSize('image', Buffer.from('GIF89a'), 1000)).rejects.toMatchObject({ code: 'FLUX_BAD_FILE' })
  await expect(readImageSize('image', Buffer.from('<svg/>'), 1000)).rejects.toMatchObject({ code: 'FLUX_BAD_FILE' })
})
