import { signal } from '@preact/signals'
import { backOff, request } from '../server/request.ts'
import { RequestError } from '../server/request-error.ts'
import type { Capabilities, Model } from '../server/wire.ts'
import { message } from './words.ts'

/** What the server can do. Null until it has answered. */
export const server = signal<{ capabilities: Capabilities; models: Model[] } | null>(null)

/** Why there is no answer yet. */
export const serverError = signal<string | null>(null)

export async function connect(): Promise<void> {
  serverError.value = null
  for (let attempt = 0; !server.value; attempt++) {
    try {
      const [capabilities, models] = await Promise.all([read('v1/capabilities'), read('v1/models')])
      server.value = { capabilities, models: models.data }
      serverError.value = null
    } catch (error) {
      serverError.value = message(error)
      if (!(error instanceof RequestError && error.isTemporary)) return
      await backOff(attempt)
    }
  }
}

const read = async (path: string) => (await request(path)).json()
