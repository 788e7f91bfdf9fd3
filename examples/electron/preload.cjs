// Runs in the sandbox of the window, between page and Electron. (A sandboxed preload is CommonJS.)
const { contextBridge, ipcRenderer } = require('electron')

contextBridge.exposeInMainWorld('ggflux', {
  /**
   * Asks for a image.
   *
   * @param {object} options of `pipe.stream()`, without `preview` and `signal`
   * @param {(event: object) => void} onEvent gets its events; at last `image`, or `{ type: 'error', code, message }`
   * @returns {() => void} cancels; nothing is told afterwards
   */
  generate(options, onEvent) {
    const { port1, port2 } = new MessageChannel()
    let done = false
    const end = () => {
      done = true
      port1.close()
    }
    port1.onmessage = ({ data }) => {
      if (done) return
      if (data.type === 'image' || data.type === 'error') end()
      onEvent(data)
    }
    // Electron's own addition to ports: the other end has gone
    port1.addEventListener('close', () => {
      if (done) return
      end()
      onEvent({
        type: 'error',
        code: 'GONE',
        message: 'The process that makes the images has ended, perhaps for lack of memory.',
      })
    })
    ipcRenderer.postMessage('generate', options, [port2])
    return end
  },
})
