import { fileURLToPath } from 'node:url'
import type { RgbImage } from '../../lib/images/rgb-image.js'
import { readTensors } from './safetensors.js'

const tensors = readTensors(fileURLToPath(new URL('../fixtures/images/expected.safetensors', import.meta.url)))

/** What Pillow and OpenCV compute; test/fixtures/images/make.py makes the file. */
export const EXPECTED_NAMES = [...tensors.keys()]

export function expectedBytes(name: string): Uint8Array {
  return tensors.get(name)!.data as Uint8Array
}

/** An image or mask of the file: [height, width, 3], or [height, width] as grey. */
export function expectedImage(name: string): RgbImage {
  const { shape, data } = tensors.get(name)!
  const [height, width, channels] = shape as [number, number, number?]
  const bytes = data as Uint8Array
  const rgb =
    channels === 3 ? bytes : Uint8Array.from({ length: bytes.length * 3 }, (_, i) => bytes[Math.floor(i / 3)]!)
  return { data: rgb, width, height }
}

export function expectedMask(name: string): { data: Uint8Array; width: number; height: number } {
  const { shape, data } = tensors.get(name)!
  return { data: data as Uint8Array, width: shape[1]!, height: shape[0]! }
}

export function largestDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) throw new Error(`${a.length} bytes, ${b.length} expected`)
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)
}
