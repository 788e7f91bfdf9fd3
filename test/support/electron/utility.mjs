// Preloaded into what utilityProcess forks: its side of the channel, process.parentPort.
import { EventEmitter } from 'node:events'
import { MessagePortMain } from './ports.mjs'

const ports = new Map()
/** requests that came before the program listens, which Electron keeps as well */
const waiting = []
process.parentPort = new EventEmitter()
process.parentPort.on('newListener', () => setImmediate(() => waiting.splice(0).forEach(deliver)))
process.parentPort.postMessage = (data) => process.send({ data })

process.on('message', ({ port: id, data, opened, closed }) => {
  if (id !== undefined) {
    if (closed) ports.get(id).disconnect()
    else ports.get(id).receive(data)
    return
  }
  const open = opened.map((id) => {
    const close = () => process.send({ port: id, closed: true })
    const port = new MessagePortMain({ send: (data) => process.send({ port: id, data }), close })
    ports.set(id, port)
    return port
  })
  deliver({ data, ports: open })
})

function deliver(event) {
  if (!process.parentPort.emit('message', event)) waiting.push(event)
}
// the parent is gone
process.on('disconnect', () => process.exit(1))
