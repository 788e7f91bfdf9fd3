import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FluxError } from '../errors.js'
import { renameOver } from '../formats/rename-over.js'
import type { ImageStore } from './image-store.js'

const HOUR = 3_600_000

/** only what is in this folder is ours, and deleted when it is old */
const OWN = 'ggflux-images'

/**
 * Keeps images as files in the subfolder `ggflux-images` of a folder, which several machines may share. A file gets its
 * name when it is complete. Those that are older than `keep` are deleted, by any process that uses the folder.
 */
export class FolderStore implements ImageStore {
  readonly #folder: string
  readonly #timer: NodeJS.Timeout

  /** @param keep milliseconds @default 24 hours */
  constructor(folder: string, keep: number = 24 * HOUR) {
    this.#folder = join(folder, OWN)
    const sweep = () => void removeOld(this.#folder, Date.now() - keep).catch(() => {}) // tried again later
    sweep()
    this.#timer = setInterval(sweep, Math.min(HOUR, keep)).unref()
  }

  async put(key: string, bytes: Buffer): Promise<void> {
    const path = this.#path(key)
    const partial = `${path}.${randomUUID()}.partial`
    try {
      await mkdir(dirname(path), { recursive: true })
      await writeFile(partial, bytes)
      await renameOver(partial, path)
    } catch (cause) {
      await rm(partial, { force: true }).catch(() => {}) // the folder may be what is wrong
      throw new FluxError('FLUX_BAD_FILE', `${path} cannot be written: ${(cause as Error).message}`, { cause })
    }
  }

  /** @throws {FluxError} FLUX_BAD_FILE if the folder cannot be written */
  async check(): Promise<void> {
    await this.put(`check-${randomUUID()}`, Buffer.alloc(0))
  }

  async get(key: string): Promise<Buffer | undefined> {
    return readFile(this.#path(key)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
  }

  async delete(key: string): Promise<void> {
    await rm(this.#path(key), { force: true })
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #path(key: string): string {
    const parts = key.split('/')
    if (!parts.every((part) => /^[\w-][\w.-]*$/.test(part)))
      throw new FluxError('FLUX_BAD_OPTION', `'${key}' is no key of an image: use letters, digits, -, . and /`)
    return join(this.#folder, ...parts)
  }
}

/** Removes files last changed before `time`, and folders that this leaves empty. */
async function removeOld(folder: string, time: number): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) {
      await removeOld(path, time)
      // a folder that another process has just made is too young
      if ((await stat(path)).mtimeMs < time && (await readdir(path)).length === 0) await rm(path, { recursive: true })
    } else if ((await stat(path)).mtimeMs < time) await rm(path, { force: true })
  }
}
