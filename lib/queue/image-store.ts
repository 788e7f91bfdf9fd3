/**
 * Where the images of jobs are kept: those that were made, and those that came with requests on their way to another
 * machine. What is in it may be deleted after a time. For a store on a network (S3 and the like) implement this.
 */
export interface ImageStore {
  /** @param key letters, digits, `-`, `.` and `/` */
  put(key: string, bytes: Buffer): Promise<void>
  /** undefined if there is nothing under this key, or no more */
  get(key: string): Promise<Buffer | undefined>
  /** does nothing if there is nothing */
  delete(key: string): Promise<void>
}

/** The key of a job's image in a store. */
export function imageKey(id: string, index: number): string {
  return `${id}/${index}`
}

/** Keeps images in this process's memory. When they take too much, the oldest are deleted. */
export class MemoryStore implements ImageStore {
  readonly #kept = new Map<string, Buffer>()
  readonly #mostBytes: number
  #bytes = 0

  /** @param mostBytes of all images; the latest one is kept in any case */
  constructor(mostBytes: number = 512 * 2 ** 20) {
    this.#mostBytes = mostBytes
  }

  async put(key: string, bytes: Buffer): Promise<void> {
    await this.delete(key)
    this.#kept.set(key, bytes)
    this.#bytes += bytes.length
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= this.#mostBytes || oldest === key) break
      await this.delete(oldest)
    }
  }

  async get(key: string): Promise<Buffer | undefined> {
    return this.#kept.get(key)
  }

  async delete(key: string): Promise<void> {
    this.#bytes -= this.#kept.get(key)?.length ?? 0
    this.#kept.delete(key)
  }
}
