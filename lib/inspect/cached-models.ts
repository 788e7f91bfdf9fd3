import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { FluxError } from '../errors.js'
import { openModelFile } from '../formats/open.js'
import { filesBelow, notedCommit, snapshotPath, snapshotsIn, type Repository } from '../hub/repository.js'
import { hubSettings, type HubOptions } from '../hub/settings.js'
import { isModelName } from '../model/locate.js'
import { describeFile } from './file.js'
import type { Inspection } from './inspection.js'

/** A model file in the hub's cache. */
export interface CachedModel {
  /** the name to pass to `load` or `pull`: `hf:owner/name:file.gguf` */
  reference: string
  /** branches and tags that pointed to this commit when they were last requested */
  revisions: string[]
  commit: string
  path: string
  /** bytes, the total of all parts if the model is split */
  size: number
  role: Inspection['role']
  architecture: string
}

const PREFIX = 'models--'

/** Lists the files in the hub's cache whose headers identify them as networks of FLUX.1. Other files are skipped. */
export async function cachedModels(options: Pick<HubOptions, 'cacheDir'> = {}): Promise<CachedModel[]> {
  const { cacheDir } = await hubSettings(options)
  const models: CachedModel[] = []
  const folders = await readdir(cacheDir).catch(() => [])
  for (const folder of folders.filter((name) => name.startsWith(PREFIX)).sort()) {
    const name = folder.slice(PREFIX.length).replace('--', '/')
    const repositories = await snapshotsIn(join(cacheDir, folder))
    const noted = await Promise.all(repositories.map(revisionsOf))
    const isMain = noted.some((revisions) => revisions.includes('main'))
    for (const [i, repository] of repositories.entries()) {
      const revisions = noted[i]!
      const { commit } = repository
      // if no commit is recorded for main, the stored commit counts as main
      const at = revisions.includes('main') || (!isMain && revisions.length === 0) ? '' : `@${revisions[0] ?? commit}`
      for (const { path } of repository.files) {
        if (!isModelName(path)) continue
        const opened = await openModelFile(snapshotPath(repository, path)).catch((error: unknown) => {
          if (!(error instanceof FluxError)) throw error
        })
        const file = opened && describeFile(opened)
        if (!file || file.role === 'unknown') continue
        const { role, architecture, size } = file
        models.push({
          reference: `hf:${name}${at}:${path}`,
          revisions,
          commit,
          path: file.path,
          size,
          role,
          architecture,
        })
      }
    }
  }
  return models
}

async function revisionsOf({ folder, commit }: Pick<Repository, 'folder' | 'commit'>): Promise<string[]> {
  const refs = (await filesBelow(join(folder, 'refs'))).map(({ path }) => path)
  const noted = await Promise.all(refs.map((revision) => notedCommit(folder, revision)))
  return refs.filter((_, i) => noted[i] === commit)
}
