import { randomUUID } from 'node:crypto'
import { FluxError } from '../errors.js'
import type { DrawOptions } from '../pipeline/engine.js'
import type { ImageStore } from './image-store.js'

/** Bytes in the options of a request: the file of an image, or its pixels. */
export interface RequestImage {
  /** names and indices on the way to it, such as `['controlNets', 0, 'image']` */
  path: (string | number)[]
  bytes: Uint8Array
}

/** Where the store has the bytes of a {@link RequestImage}. */
export interface StoredImage extends Pick<RequestImage, 'path'> {
  key: string
}

/** images are at most in `controlNets[0].image.data` or `mask.alphaOf.data` */
const DEPTH = 6

/** Takes the bytes out of options, so that these become JSON. */
export function detachImages(options: DrawOptions): { options: DrawOptions; images: RequestImage[] } {
  const images: RequestImage[] = []
  const without = (value: unknown, path: (string | number)[]): unknown => {
    if (value instanceof Uint8Array) {
      images.push({ path, bytes: value })
      return null
    }
    if (typeof value !== 'object' || value === null || path.length > DEPTH) return value
    if (Array.isArray(value)) return value.map((item, i) => without(item, [...path, i]))
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, without(item, [...path, name])]))
  }
  return { options: without(options, []) as DrawOptions, images }
}

/** Puts the bytes into options. Changes these. */
export function attachImages(options: DrawOptions, images: RequestImage[]): DrawOptions {
  type Part = Record<string | number, unknown>
  for (const { path, bytes } of images) {
    const place = path.slice(0, -1).reduce((part, name) => part[name] as Part, options as unknown as Part)
    place[path.at(-1)!] = bytes
  }
  return options
}

/** Keys for the images of one request, which nobody else has. */
export function newKeys(images: RequestImage[]): StoredImage[] {
  const folder = `inputs/${randomUUID()}`
  return images.map(({ path }, i) => ({ path, key: `${folder}/${i}` }))
}

/** @throws {FluxError} FLUX_NOT_FOUND if the store has lost one */
export async function readImages(images: StoredImage[], store: ImageStore): Promise<RequestImage[]> {
  return Promise.all(
    images.map(async ({ path, key }) => {
      const bytes = await store.get(key)
      if (bytes) return { path, bytes }
      throw new FluxError(
        'FLUX_NOT_FOUND',
        `the image of ${path.join('.')} is not in the store of this worker: give servers and workers the same folder, and send the request again`,
      )
    }),
  )
}
