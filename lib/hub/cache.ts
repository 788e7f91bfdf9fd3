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
 * Removes from the cache what a reference names: a file with its other parts, of all revisions or of the one that is named; with
 * `hf:owner/name` all that is there of the repository. Bytes that other files need stay.
 *
 * @param text 'hf:owner/name:file.gguf', 'hf:owner/name', or a preset, of which the transformer is removed that `load` takes from the cache
 * @returns bytes that are free again
 * @throws {FluxError} FLUX_NOT_FOUND; FLUX_BAD_OPTION where several files fit; FLUX_BUSY while another process downloads into the repository
 */
export async function removeCached(text: string, options: Pick<HubOptions, 'cacheDir'> = {}): Promise<number> {
  return (await removeFromCache(text, options)).bytes
}

/** {@link removeCached}, with the references of what was removed. */
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
    throw new FluxError('FLUX_NOT_FOUND', `${text} is not in the cache ${cacheDir}. \`ggflux list\` tells what is`)
  }
  for (const name of partial) {
    const busy = await isLocked(lockPath(folder, basename(name, '.incomplete')))
    if (busy) throw new FluxError('FLUX_BUSY', `${text} is being downloaded by another process: wait, or stop it first`)
  }
  const before = await bytesIn(blobs)
  if (isWhole) {
    // links first: what is left after a sudden end is no model, but bytes that a later call removes. The lock files stay: others may wait for them
    await rm(join(folder, 'snapshots'), { recursive: true, force: true })
    await rm(folder, { recursive: true, force: true })
    return { bytes: before, removed: [`hf:${repository}`] }
  }
  const [listing] = merged(found) as [Repository]
  // a revision that is named without a file is all of it
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

/** Removes those of some bytes that no snapshot has a link to any more. Other bytes stay: another program may be about to link them. */
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

/** What tells files apart, whether their names are links of one kind or the other. */
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
