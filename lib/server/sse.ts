import type { FastifyReply } from 'fastify'
import { FluxError } from '../errors.js'
import { errorBody, httpError } from './errors.js'

/** A server-sent event. `brief`: what is sent instead to a client that does not keep up. */
export interface ServerEvent {
  id?: number
  event: string
  data: object
  brief?: object
}

/** between comments that keep the connection open, in milliseconds */
const PING_MS = 15_000
/** bytes that may wait for a slow client */
const MOST_WAITING = 4 * 2 ** 20

/**
 * Sends events until the last one, or until the client has gone. An error becomes the event `error`.
 *
 * @param slowClient milliseconds after which a client that does not read is cut off
 */
export async function sendEvents(
  reply: FastifyReply,
  events: AsyncIterable<ServerEvent>,
  slowClient: number,
): Promise<void> {
  const { raw } = reply
  reply.hijack()
  raw.writeHead(200, {
    ...(reply.getHeaders() as Record<string, string>),
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no', // or nginx would hold the events back
  })
  raw.flushHeaders()
  const ping = setInterval(() => {
    if (!raw.writableNeedDrain) raw.write(': ping\n\n')
  }, PING_MS)
  try {
    for await (const { id, event, data, brief } of events) {
      if (raw.destroyed) return
      const shown = brief && raw.writableNeedDrain ? brief : data
      raw.write(`${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(shown)}\n\n`)
      if (raw.writableLength > MOST_WAITING && !(await drained(reply, slowClient))) return void raw.destroy()
    }
    raw.end()
  } catch (error) {
    if (!(error instanceof FluxError)) {
      raw.destroy()
      throw error
    }
    // the status was sent long ago
    const failure = errorBody(httpError(error.code, error.message))
    raw.end(`event: error\ndata: ${JSON.stringify({ type: 'error', error: failure })}\n\n`)
  } finally {
    clearInterval(ping)
  }
}

/** Whether the client has read what waited for it in time. */
function drained({ raw }: FastifyReply, slowClient: number): Promise<boolean> {
  return new Promise((resolve) => {
    const done = (read: boolean) => {
      clearTimeout(timer)
      raw.off('drain', onDrain).off('close', onClose)
      resolve(read)
    }
    const onDrain = () => done(true)
    const onClose = () => done(false)
    const timer = setTimeout(onClose, slowClient)
    raw.once('drain', onDrain).once('close', onClose)
  })
}
