interface Listener {
  callbacks: Set<() => void>
  handleEvent(): void
}

/** One listener per signal, however many calls share it: Node warns of a leak at the eleventh. */
const listeners = new WeakMap<AbortSignal, Listener>()

/**
 * Calls `callback` when the signal is aborted; never where it already is.
 *
 * @returns takes the callback away
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  let listener = listeners.get(signal)
  if (!listener) {
    const callbacks = new Set<() => void>()
    listener = { callbacks, handleEvent: () => callbacks.forEach((callback) => callback()) }
    listeners.set(signal, listener)
  }
  const { callbacks } = listener
  callbacks.add(callback)
  signal.addEventListener('abort', listener)
  return () => {
    // a signal that has a listener is not collected
    if (callbacks.delete(callback) && callbacks.size === 0) signal.removeEventListener('abort', listener)
  }
}

/** What `promise` gives, or the signal's reason as soon as it is aborted; the promise then goes on unwatched. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error)
    if (signal.aborted) abort()
    void promise.then(resolve, reject).finally(onAbort(signal, abort))
  })
}
