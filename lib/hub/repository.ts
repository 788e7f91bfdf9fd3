import { lstat, mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { basename, dirname, join, sep } from 'node:path'
import { FluxError } from '../errors.js'
import { isSafePath, type Reference } from './reference.js'
import { hubFetch, type Requests } from './requests.js'

/** The files of a repository at one commit. */
export interface Repository {
  reference: Reference
  commit: string
  files: RepositoryFile[]
  /** its folder in the cache */
  folder: string
}

export interface RepositoryFile {
  /** with / between its parts */
  path: string
  /** bytes */
  size: number
  /** sha256 of files in large-file storage, git's sha1 of the others; absent where the listing is the cache's */
  hash?: string
}

const COMMIT = /^[0-9a-f]{40}$/
const HASH = /^([0-9a-f]{40}|[0-9a-f]{64})$/
const MOST_FILES = 10_000
const MOST_PAGES = 200

/** The folder of a repository in the cache, as all of Hugging Face's tools name it. */
export function repositoryFolder(cacheDir: string, repository: string): string {
  return join(cacheDir, `models--${repository.replace('/', '--')}`)
}

/** The lock that whoever downloads the bytes with this hash holds. */
export function lockPath(folder: string, hash: string): string {
  return join(dirname(folder), '.locks', basename(folder), `${hash}.lock`)
}

/** Where a file of a repository lies, or will lie, in the cache. */
export function snapshotPath({ folder, commit }: Repository, path = ''): string {
  return join(folder, 'snapshots', commit, ...path.split('/'))
}

/**
 * Asks the hub what a repository holds, and notes in the cache which commit the revision is now.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_DOWNLOAD
 */
export async function listRemote(reference: Reference, requests: Requests): Promise<Repository> {
  const { repository: name, revision, text } = reference
  const { endpoint: hubUrl, cacheDir } = requests.settings
  const { listFiles, modelInfo } = await import('@huggingface/hub')
  const ask = hubFetch(requests, text)
  let pages = 0
  const fetch: typeof globalThis.fetch = (...request) => {
    if (++pages > MOST_PAGES) throw strange(`more than ${MOST_PAGES} pages`)
    return ask(...request)
  }
  const strange = (what: string) => new FluxError('FLUX_DOWNLOAD', `${text}: ${hubUrl} gives ${what}. Is it a model hub?`)
  try {
    const { sha: commit } = await modelInfo({ name, revision, hubUrl, fetch, additionalFields: ['sha'] })
    if (!COMMIT.test(commit)) throw strange('no commit')
    const files: RepositoryFile[] = []
    for await (const { type, path, size, oid, lfs } of listFiles({ repo: name, revision: commit, hubUrl, fetch, recursive: true })) {
      if (type !== 'file' || !isSafePath(path)) continue
      const hash = lfs?.oid ?? oid ?? ''
      if (!HASH.test(hash) || !Number.isSafeInteger(size) || size < 0) throw strange(`no hash or size of ${path}`)
      files.push({ path, size, hash })
      if (files.length > MOST_FILES) throw strange(`more than ${MOST_FILES} files`)
    }
    const folder = repositoryFolder(cacheDir, name)
    if (revision !== commit) await noteRevision(join(folder, 'refs', ...revision.split('/')), commit)
    return { reference, commit, files, folder }
  } catch (error) {
    requests.signal?.throwIfAborted()
    if (error instanceof FluxError) throw error
    if (isFileError(error)) throw cacheError(cacheDir, error)
    throw new FluxError('FLUX_DOWNLOAD', `${text}: ${hubUrl} gives no listing (${(error as Error).message}). Is it a model hub?`, { cause: error })
  }
}

/** Whether the operating system refused something with a file, and not the network. */
export function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'path' in error && 'code' in error
}

export function cacheError(folder: string, cause: Error): FluxError {
  return new FluxError('FLUX_DOWNLOAD', `${folder} cannot be written to (${cause.message}). Change its permissions, or set HF_HUB_CACHE to another folder`, { cause })
}

async function noteRevision(path: string, commit: string): Promise<void> {
  const partial = `${path}.${randomUUID()}.partial`
  await mkdir(dirname(path), { recursive: true })
  await writeFile(partial, commit)
  await rename(partial, path)
}

/** What the cache holds of a repository; undefined where it has never seen the revision. */
export async function listCached(reference: Reference, cacheDir: string): Promise<Repository | undefined> {
  const folder = repositoryFolder(cacheDir, reference.repository)
  const { revision } = reference
  const noted = (await readFile(join(folder, 'refs', ...revision.split('/')), 'utf8').catch(() => revision)).trim()
  if (!COMMIT.test(noted)) return undefined
  const repository: Repository = { reference, commit: noted, files: [], folder }
  repository.files = await filesBelow(snapshotPath(repository))
  return repository.files.length > 0 ? repository : undefined
}

/** All files below a folder, links to files included; those whose bytes are gone are left out. */
export async function filesBelow(folder: string): Promise<RepositoryFile[]> {
  const entries = await readdir(folder, { recursive: true }).catch(() => [])
  const files: RepositoryFile[] = []
  for (const entry of entries.sort()) {
    const path = join(folder, entry)
    const found = await stat(path).catch(() => undefined)
    // a folder that is a link is not the cache's work
    if (found?.isFile() && !(await lstat(dirname(path))).isSymbolicLink()) files.push({ path: entry.split(sep).join('/'), size: found.size })
  }
  return files
}
