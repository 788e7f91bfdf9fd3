import { EventEmitter } from 'node:events'

/**
 * What Electron calls MessagePortMain, around one of Node's ports or, in another process, around a channel to it. Messages wait until
 * `start()`, and what arrives is a copy.
 */
export class MessagePortMain extends EventEmitter {
  #waiting = []
  #started = false
  #closed = false
  #channel

  /** @param channel {{ send(message: unknown): void, close(): void }} */
  constructor(channel) {
    super()
    this.#channel = channel
  }

  static around(port) {
    const main = new MessagePortMain({ send: (message) => port.postMessage(message), close: () => port.close() })
    port.on('message', (message) => main.receive(message))
    port.on('close', () => main.disconnect())
    return main
  }

  start() {
    this.#started = true
    for (const data of this.#waiting.splice(0)) this.emit('message', { data, ports: [] })
  }

  postMessage(message) {
    if (!this.#closed) this.#channel.send(message)
  }

  close() {
    if (this.#closed) return
    this.#closed = true
    this.#channel.close()
  }

  receive(data) {
    if (this.#started) this.emit('message', { data, ports: [] })
    else this.#waiting.push(data)
  }

  disconnect() {
    if (this.#closed) return
    this.#closed = true
    this.emit('close')
  }
}
