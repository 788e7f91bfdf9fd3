import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, link, mkdir, open, rename, rm, stat, statfs, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { FluxError } from '../errors.js'
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

/** Cut connections in a row, without a byte between them, after which a download is given up. */
const MOST_CUTS = 5

/**
 * Takes a file into the cache, unless it is there. The bytes go to `blobs/<hash>.incomplete`, from which a later call goes on; they get
 * their name when their hash is right, and the snapshot a link to it. Another process that takes the same file is waited for.
 *
 * @param onBytes more bytes of the file are there
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
        await rename(`${blob}.incomplete`, blob)
      }
      await linkTo(repository, blob, path)
    })
  } catch (error) {
    throw isFileError(error) ? cacheError(requests.settings.cacheDir, error) : error
  }
  return path
}

/** Whether a file is there, and whole: the cache's own listing has only such. */
export async function isThere(path: string, { size, hash }: RepositoryFile): Promise<boolean> {
  const found = await sizeOf(path)
  return hash === undefined ? found !== undefined : found === size
}

/** Windows allows symbolic links to administrators only. */
export async function linkTo({ folder }: Repository, blob: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const partial = partialPath(folder)
  await symlink(relative(dirname(path), blob), partial)
    .catch(() => link(blob, partial))
    .catch(() => copyFile(blob, partial))
  await rename(partial, path)
}

type Wanted = RepositoryFile & { hash: string }

/** Brings a partial file to its full length and checks its hash; what is there already is kept. */
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
  // what is hashed is what has been written, however the connection ends
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
        // what the caller's own function throws is no cut connection
        if (error instanceof FluxError || thrown) throw error
        cuts = there > before ? 1 : cuts + 1
        if (cuts > MOST_CUTS)
          fail(`the connection was cut ${cuts} times (${String(error)}). Try again: it goes on where it stopped`, error)
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

/** The file's bytes from an offset on. */
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
    // the library's streams give the message alone
    throw failure ?? error
  }
}

/** Large files are known by their sha256, the others by git's sha1 of their contents behind a header. */
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
