// A stand-in for Electron, as far as examples/electron uses it: the example's own files run in real processes, with a window that is a
// script's sandbox instead of Chromium. What the user does is in scenario.mjs.
import { fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { MessagePortMain } from './ports.mjs'
import { openPage } from './window.mjs'

let ready = false
let quitting = false
const processes = new Set()
const windows = new Set()

export const app = Object.assign(new EventEmitter(), {
  async whenReady() {
    await new Promise((resolve) => setImmediate(resolve))
    ready = true
  },
  async quit() {
    if (quitting) return
    quitting = true
    for (const event of ['before-quit', 'will-quit', 'quit']) app.emit(event, { preventDefault() {} })
    // Electron itself would end them only after its own end
    const left = [...processes].filter((child) => !child.killed)
    await Promise.all([...processes].map((child) => once(child, 'exit')))
    console.log(JSON.stringify({ quit: { leftRunning: left.length } }))
    process.exit(0)
  },
})

export const ipcMain = new EventEmitter()

/** The renderer's side, for the preload script. */
const ipcRenderer = {
  postMessage(channel, message, transfer = []) {
    const event = { ports: transfer.map((port) => MessagePortMain.around(port)) }
    const copy = structuredClone(message)
    setImmediate(() => ipcMain.emit(channel, event, copy))
  },
}

class UtilityProcess extends EventEmitter {
  #ports = new Map()
  #child

  constructor(path, args, { execArgv = [] }) {
    super()
    const preload = ['--import', new URL('./utility.mjs', import.meta.url).href]
    this.#child = fork(path, args, { serialization: 'advanced', execArgv: [...execArgv, ...preload] })
    processes.add(this.#child)
    this.#child.on('message', ({ port: id, data, closed }) => {
      if (id === undefined) this.emit('message', data)
      else if (closed) this.#ports.get(id).close()
      else this.#ports.get(id).postMessage(data)
    })
    this.#child.on('exit', (code) => {
      processes.delete(this.#child)
      for (const port of this.#ports.values()) port.close()
      this.emit('exit', code ?? 1)
    })
  }

  get pid() {
    return this.#child.pid
  }

  postMessage(data, transfer = []) {
    const opened = transfer.map((port) => {
      const id = this.#ports.size
      this.#ports.set(id, port)
      port.on('message', ({ data }) => this.#send({ port: id, data }))
      port.on('close', () => this.#send({ port: id, closed: true }))
      return id
    })
    this.#send({ data, opened })
    for (const port of transfer) port.start()
  }

  #send(message) {
    if (this.#child.connected) this.#child.send(message)
  }

  kill() {
    return this.#child.kill()
  }
}

export const utilityProcess = {
  fork(path, args = [], options = {}) {
    if (!ready) throw new Error('utilityProcess cannot be created before app is ready')
    return new UtilityProcess(path, args, options)
  },
}

export class BrowserWindow {
  constructor({ webPreferences = {} }) {
    if (!ready) throw new Error('Cannot create BrowserWindow before app is ready')
    const { contextIsolation = true, sandbox = true, nodeIntegration = false, preload } = webPreferences
    if (!contextIsolation || !sandbox || nodeIntegration)
      throw new Error('the page would have more rights than it needs')
    this.preload = preload
    windows.add(this)
  }

  async loadFile(path) {
    const page = openPage(path, this.preload, ipcRenderer)
    const { play } = await import('./scenario.mjs')
    const painters = () => [...processes].map(({ pid }) => pid)
    // after what main.mjs does when its page is loaded
    setImmediate(() =>
      play(page, painters).then(
        () => this.close(),
        (error) => (console.error(error), process.exit(1)),
      ),
    )
  }

  close() {
    windows.delete(this)
    if (windows.size === 0) app.emit('window-all-closed')
  }
}
