import { readdir, readFile, readlink, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import { describeFile, type Inspection } from '../inspect.js'
import { openModelFile } from '../models/model-file.js'
import { isLaterPart } from '../models/split.js'
import { isLocked } from './file-lock.js'
import { presetReference } from './presets.js'
import { parseReference } from './reference.js'
import { filesBelow, lockPath, repositoryFolder, snapshotPath, type Repository } from './repository.js'
import { selectModel } from './select.js'
import { hubSettings, type HubOptions } from './settings.js'

/** A model file in the hub's cache. */
export interface CachedModel {
  /** what gives it to `load` or `pull`: `hf:owner/name:file.gguf` */
  reference: string
  /** branches and tags that were at this commit when they were last asked for */
  revisions: string[]
  commit: string
  path: string
  /** bytes, of all parts where the model is split */
  size: number
  role: Inspection['role']
  architecture: string
}

const PREFIX = 'models--'

/** The files in the hub's cache that are, by their headers, networks of FLUX.1. The cache may hold much else that other programs put there. */
export async function cachedModels(options: Pick<HubOptions, 'cacheDir'> = {}): Promise<CachedModel[]> {
  const { cacheDir } = await hubSettings(options)
  const models: CachedModel[] = []
  const folders = await readdir(cacheDir).catch(() => [])
  for (const folder of folders.filter((name) => name.startsWith(PREFIX)).sort()) {
    const name = folder.slice(PREFIX.length).replace('--', '/')
    for (const repository of await snapshots(join(cacheDir, folder), `hf:${name}`)) {
      const revisions = await revisionsOf(repository)
      for (const { path } of repository.files) {
        if (!/\.(gguf|safetensors)$/i.test(path) || isLaterPart(path)) continue
        const opened = await openModelFile(snapshotPath(repository, path)).catch((error: unknown) => {
          if (!(error instanceof FluxError)) throw error
        })
        const file = opened && describeFile(opened)
        if (!file || file.role === 'unknown') continue
        const at = revisions.length > 0 && !revisions.includes('main') ? `@${revisions[0]}` : ''
        const { role, architecture, size } = file
        models.push({ reference: `hf:${name}${at}:${path}`, revisions, commit: repository.commit, path: file.path, size, role, architecture })
      }
    }
  }
  return models
}

/**
 * Removes a file from the cache, or, where the reference names none, all that is there of its repository.
 *
 * @param text 'hf:owner/name:file.gguf', 'hf:owner/name', or a preset, of which the transformer is removed
 * @returns bytes that are free again
 * @throws {FluxError} FLUX_NOT_FOUND; FLUX_BUSY while another process downloads into the repository
 */
export async function removeCached(text: string, options: Pick<HubOptions, 'cacheDir'> = {}): Promise<number> {
  const { cacheDir } = await hubSettings(options)
  const reference = parseReference(presetReference(text) ?? text)
  const folder = repositoryFolder(cacheDir, reference.repository)
  const found = (await snapshots(folder, text)).map((repository) => ({ ...repository, reference }))
  const blobs = join(folder, 'blobs')
  const partial = (await readdir(blobs).catch(() => [])).filter((name) => name.endsWith('.incomplete'))
  if (found.length === 0 && partial.length === 0) {
    throw new FluxError('FLUX_NOT_FOUND', `${text} is not in the cache ${cacheDir}. \`ggflux list\` tells what is`)
  }
  for (const name of partial) {
    const busy = await isLocked(lockPath(folder, basename(name, '.incomplete')))
    if (busy) throw new FluxError('FLUX_BUSY', `${text} is being downloaded by another process: wait, or stop it first`)
  }
  const before = await bytesIn(blobs)
  if (reference.which === undefined) {
    // links first: what is left after a sudden end is no model, but bytes that a later call removes. The lock files stay: others may wait for them
    await rm(join(folder, 'snapshots'), { recursive: true, force: true })
    await rm(folder, { recursive: true, force: true })
    return before
  }
  const removed = await Promise.all(found.map((repository) => removeSelected(repository)))
  const failures = removed.filter((result) => result instanceof FluxError)
  if (failures.length === removed.length) throw failures[0]!
  await removeUnlinked(folder)
  return before - (await bytesIn(blobs))
}

async function removeSelected(repository: Repository): Promise<FluxError | undefined> {
  try {
    for (const { path } of selectModel(repository)) await rm(snapshotPath(repository, path))
    return undefined
  } catch (error) {
    if (error instanceof FluxError) return error
    throw error
  }
}

/** Removes the bytes that no snapshot has a link to. */
async function removeUnlinked(folder: string): Promise<void> {
  const linked = new Set<string>()
  for (const repository of await snapshots(folder, '')) {
    for (const { path } of repository.files) {
      const link = snapshotPath(repository, path)
      const target = await readlink(link).catch(() => undefined)
      if (target !== undefined) linked.add(resolve(dirname(link), target))
    }
  }
  const blobs = join(folder, 'blobs')
  for (const name of await readdir(blobs).catch(() => [])) {
    if (!name.endsWith('.incomplete') && !linked.has(join(blobs, name))) await rm(join(blobs, name))
  }
}

async function snapshots(folder: string, text: string): Promise<Repository[]> {
  const commits = await readdir(join(folder, 'snapshots')).catch(() => [])
  const repositories = commits.sort().map((commit) => ({ reference: { text, repository: '', revision: commit }, commit, files: [], folder }))
  return Promise.all(repositories.map(async (repository) => ({ ...repository, files: await filesBelow(snapshotPath(repository)) })))
}

async function revisionsOf({ folder, commit }: Repository): Promise<string[]> {
  const refs = await filesBelow(join(folder, 'refs'))
  const noted = await Promise.all(refs.map(async ({ path }) => ((await readFile(join(folder, 'refs', path), 'utf8')).trim() === commit ? path : '')))
  return noted.filter((path) => path !== '')
}

async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => [])
  const sizes = await Promise.all(names.map((name) => stat(join(folder, name)).then(({ size }) => size, () => 0)))
  return sizes.reduce((sum, size) => sum + size, 0)
}
