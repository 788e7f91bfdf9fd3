/** All that an iteration gives. */
export async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const value of values) all.push(value)
  return all
}

/** Whether a promise is settled once everything that can run now has run, timers of `milliseconds` included. */
export async function isSettled(promise: Promise<unknown>, milliseconds = 0): Promise<boolean> {
  let settled = false
  const note = () => {
    settled = true
  }
  promise.then(note, note)
  await new Promise<void>((resolve) => (milliseconds ? setTimeout(resolve, milliseconds) : setImmediate(resolve)))
  return settled
}
