/** The page's IndexedDB: `images` is the gallery, `inputs` the images that are drawn from. */
export type StoreName = 'images' | 'inputs'

let opened: Promise<IDBDatabase> | undefined

function open(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const opening = indexedDB.open('ggflux', 1)
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore('images')
      opening.result.createObjectStore('inputs')
    }
    opening.onsuccess = () => resolve(opening.result)
    opening.onerror = () => reject(opening.error)
  })
  return opened
}

async function perform<T>(
  name: StoreName,
  mode: IDBTransactionMode,
  act: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  const transaction = (await open()).transaction(name, mode)
  const acting = act(transaction.objectStore(name))
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(acting.result)
    transaction.onabort = () => reject(transaction.error)
  })
}

export const readAll = (name: StoreName): Promise<unknown[]> => perform(name, 'readonly', (store) => store.getAll())

export const read = (name: StoreName, key: string): Promise<unknown> =>
  perform(name, 'readonly', (store) => store.get(key))

export const write = (name: StoreName, key: string, value: unknown): Promise<IDBValidKey> =>
  perform(name, 'readwrite', (store) => store.put(value, key))

export const remove = (name: StoreName, key: string): Promise<undefined> =>
  perform(name, 'readwrite', (store) => store.delete(key))

export const removeAll = (name: StoreName): Promise<undefined> => perform(name, 'readwrite', (store) => store.clear())
