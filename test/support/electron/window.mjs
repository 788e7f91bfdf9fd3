import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createContext, runInContext } from 'node:vm'

/**
 * Runs the preload script and the scripts of a page. The page has the elements of its HTML by id, with what a test needs of them.
 *
 * @returns the page as its user sees it: elements, the pixels put on canvases, the bytes behind `blob:` addresses
 */
export function openPage(path, preload, ipcRenderer) {
  const html = readFileSync(path, 'utf8')
  const exposed = exposeFrom(preload, ipcRenderer)
  const canvas = []
  const elements = Object.fromEntries(
    [...html.matchAll(/<[^>]* id="(\w+)"[^>]*>/g)].map(([tag, id]) => [id, element(tag, canvas)]),
  )
  const blobs = new Map()
  const page = createContext({
    ...exposed,
    document: { getElementById: (id) => elements[id] ?? null },
    Blob,
    ImageData: class {
      constructor(data, width, height) {
        Object.assign(this, { data, width, height })
      }
    },
    URL: {
      createObjectURL(blob) {
        const url = `blob:${blobs.size}`
        blobs.set(url, blob)
        return url
      },
      revokeObjectURL: (url) => blobs.delete(url),
    },
  })
  for (const [, source] of html.matchAll(/<script src="([^"]+)"><\/script>/g)) {
    const file = join(dirname(path), source)
    runInContext(readFileSync(file, 'utf8'), page, { filename: file })
  }
  return { elements, canvas, exposed, bytesOf: async (url) => Buffer.from(await blobs.get(url).arrayBuffer()) }
}

function element(tag, canvas) {
  const listeners = new Map()
  return {
    value: / value="([^"]*)"/.exec(tag)?.[1] ?? '',
    textContent: '',
    src: '',
    disabled: / disabled/.test(tag),
    hidden: / hidden/.test(tag),
    addEventListener: (type, listener) => listeners.set(type, listener),
    dispatch: (type) => listeners.get(type)({ type, preventDefault() {} }),
    getContext: () => ({ putImageData: (image) => canvas.push(image) }),
  }
}

/** What the preload script gives the page: functions whose arguments are copied on the way, as contextBridge does. */
function exposeFrom(path, ipcRenderer) {
  const exposed = {}
  const electron = { contextBridge: { exposeInMainWorld: (name, api) => (exposed[name] = bridged(api)) }, ipcRenderer }
  const require = (name) => {
    if (name !== 'electron') throw new Error(`a sandboxed preload cannot load ${name}`)
    return electron
  }
  runInContext(`(function (require) {${readFileSync(path, 'utf8')}\n})`, createContext({ MessageChannel }), {
    filename: path,
  })(require)
  return exposed
}

function bridged(value) {
  if (typeof value === 'function') return (...args) => bridged(value(...args.map(bridged)))
  if (value?.constructor?.name !== 'Object') return structuredClone(value)
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, bridged(part)]))
}
