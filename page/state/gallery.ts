import { computed, signal } from '@preact/signals'
import { thumbnail } from '../images/thumbnail.ts'
import type { Format } from '../server/wire.ts'
import { readAll, remove, removeAll, write } from './database.ts'
import { notifyError } from './notices.ts'
import type { Settings } from './settings.ts'
import { message } from './words.ts'

export interface GalleryImage {
  id: string
  /** milliseconds since 1970 */
  made: number
  file: Blob
  thumbnail: Blob
  format: Format
  width: number
  height: number
  /** the settings that draw this image again, with its seed and model */
  settings: Settings
  /** the settings are not enough to draw it again */
  isFromImages: boolean
  /** in A1111's format */
  parameters: string
}

/** The oldest images go when there are more, or larger ones. */
export const MOST_IMAGES = 200
export const MOST_BYTES = 256e6

/** The images of this browser, the newest first. */
export const gallery = signal<GalleryImage[]>([])

export const galleryBytes = computed(() => gallery.value.reduce((sum, { file }) => sum + file.size, 0))

export async function openGallery(): Promise<void> {
  try {
    const images = (await readAll('images')) as GalleryImage[]
    gallery.value = images.sort((a, b) => b.made - a.made)
  } catch (error) {
    notifyError(`This browser keeps no images for the page: save those you want. (${message(error)})`)
  }
}

export async function addImage(image: Omit<GalleryImage, 'thumbnail'>): Promise<void> {
  const added = { ...image, thumbnail: await thumbnail(image.file) }
  gallery.value = [added, ...gallery.value.filter(({ id }) => id !== image.id)].sort((a, b) => b.made - a.made)
  await store(() => write('images', added.id, added))
  while (gallery.value.length > MOST_IMAGES || (galleryBytes.value > MOST_BYTES && gallery.value.length > 1))
    await removeImage(gallery.value.at(-1)!.id)
}

export async function removeImage(id: string): Promise<void> {
  gallery.value = gallery.value.filter((image) => image.id !== id)
  await store(() => remove('images', id))
}

export async function emptyGallery(): Promise<void> {
  gallery.value = []
  await store(() => removeAll('images'))
}

async function store(act: () => Promise<unknown>): Promise<void> {
  try {
    await act()
  } catch (error) {
    notifyError(`The browser's storage failed: save the images that you want. (${message(error)})`)
  }
}
