interface Listener {
  callbacks: Set<() => void>
  handleEvent(): void
}

/**
 * One listener per signal, no matter how many calls share it, because Node warns of a leak at the eleventh listener.
 */
const listeners = new WeakMap<AbortSignal, Listener>()

/**
 * Calls `callback` when the signal is aborted, but not if it is already aborted.
 *
 * @returns a function that removes the callback
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
    // a signal with a listener is not garbage-collected
    if (callbacks.delete(callback) && callbacks.size === 0) signal.removeEventListener('abort', listener)
  }
}

/**
 * Settles like `promise`, or rejects with the signal's reason as soon as it is aborted. The promise itself continues,
 * and its result is ignored.
 */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error)
    if (signal.aborted) abort()
    void promise.then(resolve, reject).finally(onAbort(signal, abort))
  })
}
