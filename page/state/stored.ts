import { effect, signal, type Signal } from '@preact/signals'

/** A signal whose value survives a reload, as JSON in localStorage. */
export function stored<T>(name: string, initial: T, restore: (value: T) => T = (value) => value): Signal<T> {
  const value = signal(read(name, initial, restore))
  effect(() => {
    const text = JSON.stringify(value.value)
    try {
      localStorage.setItem(name, text)
    } catch {
      // storage is full or blocked: the value lasts as long as the page
    }
  })
  return value
}

function read<T>(name: string, initial: T, restore: (value: T) => T): T {
  try {
    const text = localStorage.getItem(name)
    return text === null ? initial : restore(JSON.parse(text))
  } catch {
    return initial
  }
}
