import { signal } from '@preact/signals'
import { stored } from './stored.ts'

export const apiKey = stored<string>('ggflux.key', '')

/** The open question for the key. */
export const keyQuestion = signal<{ wasRefused: boolean } | null>(null)

let asked: { answer: Promise<boolean>; resolve: (isGiven: boolean) => void } | undefined

/**
 * Asks the user for the key, once for all requests that were refused meanwhile.
 *
 * @param refused the key that the server refused
 * @returns whether there is another key to try
 */
export async function askForKey(refused: string): Promise<boolean> {
  if (apiKey.value !== refused) return true
  if (!asked) {
    let resolve!: (isGiven: boolean) => void
    const answer = new Promise<boolean>((settle) => (resolve = settle))
    asked = { answer, resolve }
    keyQuestion.value = { wasRefused: refused !== '' }
  }
  return asked.answer
}

/** @param key undefined if the user does not give one */
export function answerKey(key: string | undefined): void {
  if (key !== undefined) apiKey.value = key
  keyQuestion.value = null
  asked?.resolve(key !== undefined)
  asked = undefined
}
