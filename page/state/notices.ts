import { signal } from '@preact/signals'
import { message } from './words.ts'

export interface Notice {
  id: number
  kind: 'error' | 'info'
  text: string
  action?: { label: string; run: () => void }
}

/** how long a notice without an error stays */
const INFO_MS = 8000

export const notices = signal<Notice[]>([])

let lastId = 0

export function notify(text: string, action?: Notice['action']): void {
  const { id } = add({ kind: 'info', text, action })
  setTimeout(() => dismiss(id), INFO_MS)
}

export function notifyError(error: unknown, action?: Notice['action']): void {
  add({ kind: 'error', text: message(error), action })
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id)
}

/** The same text is shown once. */
function add(notice: Omit<Notice, 'id'>): Notice {
  const added = { ...notice, id: ++lastId }
  notices.value = [...notices.value.filter(({ text }) => text !== notice.text), added]
  return added
}
