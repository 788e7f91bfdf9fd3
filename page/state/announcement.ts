import { signal } from '@preact/signals'

/** What a screen reader says next about jobs: their beginning and end, not each step. */
export const announcement = signal('')

export function announce(text: string): void {
  announcement.value = text
}
