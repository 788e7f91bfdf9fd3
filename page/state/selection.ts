import { signal } from '@preact/signals'

/** The job or the image of the gallery that is on the stage, by its id. */
export const selectedId = signal<string | null>(null)
