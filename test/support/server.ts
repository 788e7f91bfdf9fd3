import { afterAll } from 'vitest'
import { createServer, type Server, type ServerOptions } from '../../lib/server/index.js'

export interface TestServer extends Server {
  url: string
  /** the log, by line */
  log: Record<string, unknown>[]
}

/** A server of the tiny model on a free port, until the tests of the file or `describe` are over. */
export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  const log: Record<string, unknown>[] = []
  const server = await createServer({
    port: 0,
    patience: 0,
    load: { backend: 'cpu' },
    logStream: { write: (line) => void log.push(JSON.parse(line)) },
    ...options,
  })
  afterAll(() => server.close())
  return { ...server, url: await server.listen(), log }
}

export async function postJson(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<{ response: Response; body: any }> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  return { response, body: await response.json() }
}

/** Waits until a condition holds, looking often. */
export async function until(condition: () => Promise<boolean> | boolean, what: string): Promise<void> {
  const began = Date.now()
  while (!(await condition())) {
    if (Date.now() - began > 20_000) throw new Error(`${what} did not come about in 20 s`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The events of a stream of server-sent events. */
export async function* eventsOf(response: Response): AsyncGenerator<{ id?: string; event: string; data: any }> {
  let text = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = text.slice(0, end).split('\n')
      text = text.slice(end + 2)
      const field = (name: string) => fields.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
      const [id, event, data] = [field('id'), field('event'), field('data')]
      if (event && data) yield { ...(id === undefined ? {} : { id }), event, data: JSON.parse(data) }
    }
  }
}
