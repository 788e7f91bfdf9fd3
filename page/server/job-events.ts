import { readEvents } from './event-stream.ts'
import { backOff, persistentRequest } from './request.ts'
import type { JobEvent } from './wire.ts'

const LAST = ['completed', 'failed', 'cancelled']

/** All events of a job, from the first to the last. When the connection is lost, it is made again and goes on where it was. */
export async function* jobEvents(
  id: string,
  onConnection: (isConnected: boolean) => void,
): AsyncGenerator<JobEvent, void, undefined> {
  let lastId = ''
  for (let attempt = 0; ; attempt++) {
    const headers: Record<string, string> = lastId ? { 'Last-Event-ID': lastId } : {}
    const { body } = await persistentRequest(`v1/jobs/${id}/events`, headers, onConnection)
    for await (const event of readEvents(body!)) {
      yield { type: event.type, data: JSON.parse(event.data) } as JobEvent
      if (LAST.includes(event.type)) return
      lastId = event.id
      attempt = 0
    }
    onConnection(false)
    await backOff(attempt)
  }
}
