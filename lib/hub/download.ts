import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, link, mkdir, open, rm, stat, statfs, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { FluxError } from '../errors.js'
import { renameOver } from '../formats/rename-over.js'
import { writeAll } from '../formats/write-model-file.js'
import { withFileLock } from '../native/file-lock.js'
import {
  cacheError,
  isFileError,
  lockPath,
  partialPath,
  snapshotPath,
  type Repository,
  type RepositoryFile,
} from './repository.js'
import { hubFetch, pause, type Requests } from './requests.js'

/** A download fails after this many lost connections in a row without any data between them. */
const MOST_CUTS = 5

/**
 * Downloads a file into the cache, unless it is already there. The data goes to `blobs/<hash>.incomplete`, and a later
 * call resumes it. If the hash is correct, the file gets its final name and the snapshot gets a link to it. If another
 * process downloads the same file, the call waits for it.
 *
 * @param onBytes reports additional bytes of the file
 * @returns the file's path in the snapshot
 * @throws {FluxError} FLUX_DOWNLOAD, FLUX_NOT_FOUND
 */
export async function download(
  repository: Repository,
  file: RepositoryFile,
  requests: Requests,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const path = snapshotPath(repository, file.path)
  if (await isThere(path, file)) {
    onBytes(file.size)
    return path
  }
  const { hash } = file
  if (hash === undefined)
    throw new FluxError('FLUX_NOT_FOUND', `${repository.reference.text}: ${file.path} is not in the cache`)
  const blob = join(repository.folder, 'blobs', hash)
  try {
    await mkdir(dirname(blob), { recursive: true })
    await withFileLock(lockPath(repository.folder, hash), requests.signal, async () => {
      if ((await sizeOf(blob)) === file.size) onBytes(file.size)
      else {
        await fill(`${blob}.incomplete`, repository, { ...file, hash }, requests, onBytes)
        await renameOver(`${blob}.incomplete`, blob)
      }
      await linkTo(repository, blob, path)
    })
  } catch (error) {
    throw isFileError(error) ? cacheError(requests.settings.cacheDir, error) : error
  }
  return path
}

/** Whether a file is present and complete. Files in the cache's own listing always are. */
export async function isThere(path: string, { size, hash }: RepositoryFile): Promise<boolean> {
  const found = await sizeOf(path)
  return hash === undefined ? found !== undefined : found === size
}

/** Windows allows only administrators to create symbolic links. */
export async function linkTo({ folder }: Repository, blob: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const partial = partialPath(folder)
  await symlink(relative(dirname(path), blob), partial)
    .catch(() => link(blob, partial))
    .catch(() => copyFile(blob, partial))
  await renameOver(partial, path)
}

type Wanted = RepositoryFile & { hash: string }

/** Downloads the rest of a partial file and checks its hash. */
async function fill(
  partial: string,
  repository: Repository,
  file: Wanted,
  requests: Requests,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const what = `${repository.reference.text} (${file.path})`
  const fail = (message: string, cause?: unknown): never => {
    throw new FluxError('FLUX_DOWNLOAD', `${what}: ${message}`, { cause })
  }
  const hash = startHash(file)
  if (((await sizeOf(partial)) ?? 0) > file.size) await rm(partial)
  const handle = await open(partial, 'a')
  let there = 0
  let thrown: { error: unknown } | undefined
  // only bytes that have been written are hashed, however the connection ends
  const took = (bytes: Uint8Array) => {
    hash.update(bytes)
    there += bytes.length
    try {
      onBytes(bytes.length)
    } catch (error) {
      thrown = { error }
      throw error
    }
  }
  try {
    for await (const bytes of createReadStream(partial)) took(bytes as Buffer)
    await checkSpace(dirname(partial), file.size - there, fail)
    for (let cuts = 0; there < file.size; ) {
      const before = there
      try {
        for await (const bytes of bodyFrom(there, repository, file, requests, what)) {
          if (there + bytes.length > file.size)
            fail(`the server sends more than the ${file.size} bytes that it promised. Try again`)
          await writeAll(handle, bytes).catch((cause: Error) =>
            fail(`it cannot be written to ${partial} (${cause.message}). Make room, and try again`, cause),
          )
          took(bytes)
        }
        if (there === before) throw new Error('it ended at once')
      } catch (error) {
        requests.signal?.throwIfAborted()
        // an error from the caller's own function is not a lost connection
        if (error instanceof FluxError || thrown) throw error
        cuts = there > before ? 1 : cuts + 1
        if (cuts > MOST_CUTS)
          fail(`the connection was cut ${cuts} times (${String(error)}). Try again: it resumes where it stopped`, error)
        await pause(requests, cuts - 1)
      }
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  const found = hash.digest('hex')
  if (found === file.hash) return
  await rm(partial)
  fail(`what arrived has the hash ${found}, not ${file.hash}, and was removed. Try again`)
}

/** The file's bytes, starting at an offset. */
async function* bodyFrom(
  offset: number,
  repository: Repository,
  file: Wanted,
  requests: Requests,
  what: string,
): AsyncGenerator<Uint8Array> {
  const { downloadFile } = await import('@huggingface/hub')
  const { reference, commit } = repository
  let failure: unknown
  const fetch: typeof globalThis.fetch = (...request) =>
    hubFetch(
      requests,
      what,
    )(...request).catch((error: unknown) => {
      failure = error
      throw error
    })
  const blob = await downloadFile({
    repo: reference.repository,
    path: file.path,
    revision: commit,
    hubUrl: requests.settings.endpoint,
    fetch,
  })
  if (blob?.size !== file.size) {
    const has = blob ? `has ${blob.size} bytes of it, not the ${file.size} that it listed` : 'has it no longer'
    throw new FluxError('FLUX_DOWNLOAD', `${what}: the hub ${has}. Try again`)
  }
  try {
    yield* blob.slice(offset).stream()
  } catch (error) {
    // the library's streams keep only the error's message
    throw failure ?? error
  }
}

/** Large files are identified by their sha256, the others by git's sha1 of a header and their contents. */
function startHash({ hash, size }: Wanted): Hash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

async function checkSpace(folder: string, bytes: number, fail: (message: string) => never): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  const gb = (count: number) => `${(count / 1e9).toFixed(1)} GB`
  if (bytes > bavail * bsize)
    fail(
      `${gb(bytes)} are needed, and ${folder} has ${gb(bavail * bsize)} left. Make room, or set HF_HUB_CACHE to another disk`,
    )
}

async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  )
}
