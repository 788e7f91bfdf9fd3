export interface StreamEvent {
  id: string
  type: string
  data: string
}

/**
 * The events of a `text/event-stream`, which `EventSource` cannot fetch with an API key. Ends with the stream, also when the connection
 * breaks.
 */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent, void, undefined> {
  const reader = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader()
  let text = ''
  try {
    for (;;) {
      const { value } = await reader.read().catch(() => ({ value: undefined }))
      if (value === undefined) return
      text += value
      const blocks = text.split(/\r?\n\r?\n/)
      text = blocks.pop()!
      for (const block of blocks) {
        const event = parse(block)
        if (event.data) yield event
      }
    }
  } finally {
    reader.cancel().catch(() => {})
  }
}

function parse(block: string): StreamEvent {
  const fields: Record<string, string> = {}
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? []
    if (name) fields[name] = name === 'data' && fields.data ? `${fields.data}\n${value}` : value!
  }
  return { id: fields.id ?? '', type: fields.event ?? 'message', data: fields.data ?? '' }
}
