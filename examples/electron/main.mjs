// The main process: windows, and who may talk to whom. npx electron main.mjs
import { join } from 'node:path'
import { app, BrowserWindow, ipcMain, utilityProcess } from 'electron'

/**
 * The pipeline lives in a utility process of its own. It would not block the main process (all work is done in other threads), but it may
 * need more memory than the machine has: then the system ends that process, and the windows stay. Killing it also gives all of its memory
 * back at once.
 *
 * @type {Electron.UtilityProcess | undefined}
 */
let painter

function startPainter() {
  const child = utilityProcess.fork(join(import.meta.dirname, 'painter.mjs'), [], { serviceName: 'ggflux' })
  // the ports of its requests close, which the page is told; the next request starts another one
  child.once('exit', () => {
    if (painter === child) painter = undefined
  })
  return child
}

// The page's end of the port stays with the page: steps and images do not pass through here.
ipcMain.on('generate', ({ ports }, options) => {
  painter ??= startPainter()
  painter.postMessage(options, ports)
})

app.on('window-all-closed', () => app.quit())
app.on('will-quit', () => painter?.kill())

await app.whenReady()
const window = new BrowserWindow({
  width: 640,
  height: 760,
  // contextIsolation and sandbox are on, nodeIntegration is off, which are the defaults: the page sees only what the preload gives it
  webPreferences: { preload: join(import.meta.dirname, 'preload.cjs') },
})
await window.loadFile(join(import.meta.dirname, 'index.html'))
