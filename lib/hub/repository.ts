import { lstat, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { basename, dirname, join, sep } from 'node:path'
import { FluxError } from '../errors.js'
import { renameOver } from '../formats/rename-over.js'
import { isSafePath, type Reference } from './reference.js'
import { hubFetch, type Requests } from './requests.js'

/** The files of a repository at one commit. */
export interface Repository {
  reference: Reference
  commit: string
  files: RepositoryFile[]
  /** its folder in the cache */
  folder: string
  /** the cache knows a newer commit but does not have all of its files */
  older?: true
}

export interface RepositoryFile {
  /** with / as separator */
  path: string
  /** in bytes */
  size: number
  /**
   * sha256 for files in large-file storage, git's sha1 for the others; undefined if the listing comes from the cache
   */
  hash?: string
  /** in a listing of several snapshots: those that have the file, the newest first */
  commits?: string[]
}

const COMMIT = /^[0-9a-f]{40}$/
const HASH = /^([0-9a-f]{40}|[0-9a-f]{64})$/
const MOST_FILES = 10_000
const MOST_PAGES = 200

/** The folder of a repository in the cache, named as all of Hugging Face's tools name it. */
export function repositoryFolder(cacheDir: string, repository: string): string {
  return join(cacheDir, `models--${repository.replace('/', '--')}`)
}

/** The lock that a process holds while it downloads the data with this hash. */
export function lockPath(folder: string, hash: string): string {
  return join(dirname(folder), '.locks', basename(folder), `${hash}.lock`)
}

/** The path, existing or future, of a repository's file in the cache. */
export function snapshotPath({ folder, commit }: Pick<Repository, 'folder' | 'commit'>, path = ''): string {
  return join(folder, 'snapshots', commit, ...path.split('/'))
}

/**
 * Requests the list of a repository's files from the hub. The cache does not change: {@link noteRevision} follows after
 * the download.
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
  const strange = (what: string) =>
    new FluxError('FLUX_DOWNLOAD', `${text}: ${hubUrl} gives ${what}. Is it a model hub?`)
  try {
    const { sha: commit } = await modelInfo({ name, revision, hubUrl, fetch, additionalFields: ['sha'] })
    if (!COMMIT.test(commit)) throw strange('no commit')
    const files: RepositoryFile[] = []
    for await (const { type, path, size, oid, lfs } of listFiles({
      repo: name,
      revision: commit,
      hubUrl,
      fetch,
      recursive: true,
    })) {
      if (type !== 'file' || !isSafePath(path)) continue
      const hash = lfs?.oid ?? oid ?? ''
      if (!HASH.test(hash) || !Number.isSafeInteger(size) || size < 0) throw strange(`no hash or size of ${path}`)
      files.push({ path, size, hash })
      if (files.length > MOST_FILES) throw strange(`more than ${MOST_FILES} files`)
    }
    return { reference, commit, files, folder: repositoryFolder(cacheDir, name) }
  } catch (error) {
    requests.signal?.throwIfAborted()
    if (error instanceof FluxError) throw error
    throw new FluxError(
      'FLUX_DOWNLOAD',
      `${text}: ${hubUrl} gives no listing (${(error as Error).message}). Is it a model hub?`,
      { cause: error },
    )
  }
}

/** Whether an error comes from a file operation and not from the network. */
export function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'path' in error && 'code' in error
}

export function cacheError(folder: string, cause: Error): FluxError {
  return new FluxError(
    'FLUX_DOWNLOAD',
    `${folder} cannot be written to (${cause.message}). Change its permissions, or set HF_HUB_CACHE to another folder`,
    { cause },
  )
}

/**
 * Notes the current commit of a revision in the cache, in `refs/`. Only a commit whose files are present is noted,
 * because the ref determines the revision when offline. Python's tools treat everything in `refs/` as a ref, so the
 * partial file is written outside of it.
 */
export async function noteRevision({ folder, commit, reference: { revision } }: Repository): Promise<void> {
  if (revision === commit || (await notedCommit(folder, revision)) === commit) return
  const path = join(folder, 'refs', ...revision.split('/'))
  const partial = partialPath(folder)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(partial, commit)
  await renameOver(partial, path)
}

/** A new file that is renamed later. It is in the repository's own folder, whose files no tool reads. */
export function partialPath(folder: string): string {
  return join(folder, `${randomUUID()}.partial`)
}

/** The commit that the cache has noted for a branch or tag. */
export async function notedCommit(folder: string, revision: string): Promise<string | undefined> {
  return readFile(join(folder, 'refs', ...revision.split('/')), 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  )
}

/**
 * Lists a repository's files in the cache: those of the commit that is noted for the revision. If none is noted for
 * `main`, all snapshots are merged into one listing, because @huggingface/hub notes none and puts each file under the
 * commit that last changed it.
 *
 * @param anyRevision if a commit is noted for `main`, the other snapshots follow, the newest first
 */
export async function listCached(reference: Reference, cacheDir: string, anyRevision: boolean): Promise<Repository[]> {
  const folder = repositoryFolder(cacheDir, reference.repository)
  const { revision } = reference
  const noted = (await notedCommit(folder, revision)) ?? (COMMIT.test(revision) ? revision : undefined)
  if (noted === undefined && revision !== 'main') return []
  const snapshots = (await snapshotsIn(folder)).map((snapshot) => ({ ...snapshot, reference }))
  if (noted === undefined) return merged(snapshots)
  const current = snapshots.filter(({ commit }) => commit === noted)
  if (!anyRevision || revision !== 'main') return current
  return [
    ...current,
    ...snapshots.filter(({ commit }) => commit !== noted).map((snapshot) => ({ ...snapshot, older: true as const })),
  ]
}

/** The non-empty snapshots of a repository, the newest first. The newest is the one that last received a file. */
export async function snapshotsIn(folder: string): Promise<Omit<Repository, 'reference'>[]> {
  const commits = await readdir(join(folder, 'snapshots')).catch(() => [])
  const snapshots = await Promise.all(
    commits.sort().map(async (commit) => {
      const files = await filesBelow(snapshotPath({ folder, commit }))
      const times = await Promise.all(
        files.map(({ path }) =>
          lstat(snapshotPath({ folder, commit }, path)).then(
            ({ mtimeMs }) => mtimeMs,
            () => 0,
          ),
        ),
      )
      return { commit, files, folder, time: times.reduce((newest, time) => Math.max(newest, time), 0) }
    }),
  )
  const filled = snapshots.filter(({ files }) => files.length > 0).sort((a, b) => b.time - a.time)
  return filled.map(({ commit, files }) => ({ commit, files, folder }))
}

/**
 * Merges several snapshots into one listing. Returns an empty list if there are none. If several have a file, the
 * newest one is used.
 */
export function merged(snapshots: Repository[]): Repository[] {
  const [newest] = snapshots
  if (!newest) return []
  const files = new Map<string, RepositoryFile & { commits: string[] }>()
  for (const snapshot of snapshots) {
    for (const file of snapshot.files) {
      const known = files.get(file.path)
      if (known) known.commits.push(snapshot.commit)
      else files.set(file.path, { ...file, commits: [snapshot.commit] })
    }
  }
  return [{ ...newest, files: [...files.values()] }]
}

/** Lists all files below a folder, including links to files. Dangling links are left out. */
export async function filesBelow(folder: string): Promise<RepositoryFile[]> {
  const entries = await readdir(folder, { recursive: true }).catch(() => [])
  const files: RepositoryFile[] = []
  for (const entry of entries.sort()) {
    const path = join(folder, entry)
    const found = await stat(path).catch(() => undefined)
    // the cache itself never creates links to folders
    if (found?.isFile() && !(await lstat(dirname(path))).isSymbolicLink())
      files.push({ path: entry.split(sep).join('/'), size: found.size })
  }
  return files
}
