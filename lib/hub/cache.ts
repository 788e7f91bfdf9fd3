import { readdir, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { FluxError } from '../errors.js'
import { isLocked } from '../native/file-lock.js'
import { presetReference } from './presets.js'
import { parseReference } from './reference.js'
import {
  lockPath,
  merged,
  notedCommit,
  repositoryFolder,
  snapshotPath,
  snapshotsIn,
  type Repository,
} from './repository.js'
import { selectModel } from './select.js'
import { hubSettings, type HubOptions } from './settings.js'

/**
 * Removes the files of a reference from the cache: a file with its other parts, from all revisions or from the named
 * one. `hf:owner/name` removes the whole repository. Blobs that other files use are kept.
 *
 * @param text 'hf:owner/name:file.gguf', 'hf:owner/name', or a preset; for a preset, its own file is removed, of a model
 *   the transformer that `load` uses from the cache
 * @returns the number of bytes freed
 * @throws {FluxError} FLUX_NOT_FOUND; FLUX_BAD_OPTION if several files match; FLUX_BUSY while another process downloads
 *   into the repository
 */
export async function removeCached(text: string, options: Pick<HubOptions, 'cacheDir'> = {}): Promise<number> {
  return (await removeFromCache(text, options)).bytes
}

/** Like {@link removeCached}, and also returns the references of the removed files. */
export async function removeFromCache(
  text: string,
  options: Pick<HubOptions, 'cacheDir'> = {},
): Promise<{ bytes: number; removed: string[] }> {
  const { cacheDir } = await hubSettings(options)
  const preset = presetReference(text)
  const reference = parseReference(preset ?? text)
  const { repository, revision, which } = reference
  const folder = repositoryFolder(cacheDir, repository)
  const isPinned = reference.text.startsWith(`hf:${repository}@`)
  const commit = isPinned ? ((await notedCommit(folder, revision)) ?? revision) : undefined
  const all = (await snapshotsIn(folder)).map((snapshot) => ({ ...snapshot, reference }))
  const found = all.filter((snapshot) => commit === undefined || snapshot.commit === commit)
  const blobs = join(folder, 'blobs')
  const partial = (await readdir(blobs).catch(() => [])).filter((name) => name.endsWith('.incomplete'))
  const isWhole = preset === undefined && !isPinned && which === undefined
  const isThere = isWhole
    ? await stat(folder).then(
        () => true,
        () => false,
      )
    : found.length > 0
  if (!isThere) {
    throw new FluxError('FLUX_NOT_FOUND', `${text} is not in the cache ${cacheDir}. \`ggflux list\` shows what is`)
  }
  for (const name of partial) {
    const busy = await isLocked(lockPath(folder, basename(name, '.incomplete')))
    if (busy) throw new FluxError('FLUX_BUSY', `${text} is being downloaded by another process: wait, or stop it first`)
  }
  const before = await bytesIn(blobs)
  if (isWhole) {
    // Links first: after a crash, no incomplete model is left, only blobs that a later call removes. The lock files
    // stay, because other processes may wait for them
    await rm(join(folder, 'snapshots'), { recursive: true, force: true })
    await rm(folder, { recursive: true, force: true })
    return { bytes: before, removed: [`hf:${repository}`] }
  }
  const [listing] = merged(found) as [Repository]
  // a revision without a file name means all of its files
  const files = preset === undefined && which === undefined ? listing.files : selectModel(listing)
  const paths = files.flatMap(({ path, commits = [] }) =>
    commits.map((commit) => snapshotPath({ folder, commit }, path)),
  )
  const blobsOf = await identities(paths)
  for (const path of paths) await rm(path)
  await removeBlobs(folder, blobsOf)
  const at = isPinned ? `@${revision}` : ''
  return { bytes: before - (await bytesIn(blobs)), removed: files.map(({ path }) => `hf:${repository}${at}:${path}`) }
}

/**
 * Removes the candidate blobs that no snapshot links to any more. Other blobs stay, because another program may be
 * about to link them.
 */
async function removeBlobs(folder: string, candidates: Set<string>): Promise<void> {
  const snapshots = await snapshotsIn(folder)
  const linked = await identities(
    snapshots.flatMap(({ commit, files }) => files.map(({ path }) => snapshotPath({ folder, commit }, path))),
  )
  const blobs = join(folder, 'blobs')
  for (const name of await readdir(blobs).catch(() => [])) {
    const [identity] = await identities([join(blobs, name)])
    if (identity !== undefined && candidates.has(identity) && !linked.has(identity)) await rm(join(blobs, name))
  }
}

/** Device and inode numbers, which identify a file even through symbolic or hard links. */
async function identities(paths: string[]): Promise<Set<string>> {
  const found = await Promise.all(
    paths.map((path) =>
      stat(path, { bigint: true }).then(
        ({ dev, ino }) => `${dev} ${ino}`,
        () => undefined,
      ),
    ),
  )
  return new Set(found.filter((identity) => identity !== undefined))
}

async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => [])
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}
