/** Longer lists are refused later, without being copied. */
const MOST = 4096
const DEPTH = 5

/**
 * Copies a value as it is at this moment: plain objects, arrays and buffers, down to five levels. The caller may change
 * his own afterwards. Other objects, such as signals, and functions remain the same.
 */
export function snapshot<T>(value: T): T {
  return copy(value, DEPTH) as T
}

function copy(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null || depth === 0) return value
  if (ArrayBuffer.isView(value)) return value instanceof DataView ? value : copyOfView(value as Uint8Array)
  // holes become undefined, which is refused by name
  if (Array.isArray(value)) return value.length > MOST ? value : Array.from(value, (item) => copy(item, depth - 1))
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, copy(item, depth - 1)]))
}

/** A view of a buffer that was moved to another thread is left as it is: it has no bytes. */
function copyOfView(view: Uint8Array): Uint8Array {
  // Buffer's own slice would share the memory
  return view.byteLength === 0 ? view : Uint8Array.prototype.slice.call(view)
}
