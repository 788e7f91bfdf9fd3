import { effect, signal, type Signal } from '@preact/signals'
import type { InputImage } from '../images/input-image.ts'
import type { Mask } from '../images/mask.ts'
import { read, write } from './database.ts'

/** The image to start from, or to repaint. */
export const image = signal<InputImage | null>(null)

/** Where {@link image} is drawn anew. */
export const mask = signal<Mask | null>(null)

/** Images that the prompt refers to. */
export const references = signal<InputImage[]>([])

/** An image of edges or depth, which the drawing follows. */
export const controlImage = signal<InputImage | null>(null)

/** @param value replaces the image; the mask of another one does not fit it */
export function setImage(value: InputImage | null): void {
  mask.value = null
  image.value = value
}

/** Reads what was there before the page was loaded, and keeps what changes. */
export async function openInputs(): Promise<void> {
  await Promise.all([
    keep('image', image),
    keep('mask', mask),
    keep('references', references),
    keep('control', controlImage),
  ])
}

async function keep<T>(name: string, value: Signal<T>): Promise<void> {
  // without storage the images last as long as the page
  const before = (await read('inputs', name).catch(() => undefined)) as T | undefined
  if (before !== undefined) value.value = before
  effect(() => {
    write('inputs', name, value.value).catch(() => {})
  })
}
