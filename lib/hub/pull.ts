import { readlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import type { Family } from '../families/family.js'
import type { ModelFiles } from '../families/registry.js'
import { checkModelFiles, filesAt, type ModelPlaces } from '../model/model-files.js'
import { openModelFile } from '../formats/open.js'
import type { ModelFile } from '../formats/model-file.js'
import { networkOf, type NetworkFile } from '../networks/network-file.js'
import type { NetworkConfigs, NetworkKind } from '../networks/registry.js'
import { withSource } from '../formats/byte-source.js'
import { joinParts } from '../formats/shards.js'
import { badOption, requireSignal } from '../options/checks.js'
import { warnProcess } from '../options/warn.js'
import { download, isThere, linkTo } from './download.js'
import { isOnHub, notOnHub, planFile, planModel, type HubFiles, type Plan, type Where } from './plan.js'
import { remoteFile } from './remote-file.js'
import {
  cacheError,
  isFileError,
  noteRevision,
  snapshotPath,
  type Repository,
  type RepositoryFile,
} from './repository.js'
import { isOffline, type Requests } from './requests.js'
import { hubSettings, type HubOptions } from './settings.js'

export interface PullOptions extends HubOptions {
  signal?: AbortSignal
  /** bytes that are in the cache, and in all */
  onProgress?: (done: number, total: number) => void
  /** takes what is no error but should be known, such as that an older revision had to be used @default process.emitWarning */
  onWarning?: (message: string) => void
}

/**
 * Takes a model from the hub into the cache that all of Hugging Face's tools share, and tells where its files lie. What is there already is
 * not taken again; what was cut goes on where it stopped. The files' headers are read before the downloads, so that a file which is none of
 * FLUX.1 costs a few requests.
 *
 * @param source 'flux.1-schnell', 'flux.1-dev:Q8_0', 'hf:owner/name:Q4_K_S', or files of which some are such references
 * @throws {FluxError} FLUX_BAD_OPTION, FLUX_NOT_FOUND, FLUX_DOWNLOAD, FLUX_BAD_FILE, FLUX_UNSUPPORTED; the signal's reason when aborted
 */
export async function pull(source: string | ModelFiles, options: PullOptions = {}): Promise<ModelFiles> {
  if (typeof source !== 'string') checkModelFiles(source)
  else if (!isOnHub(source)) throw notOnHub(source)
  const requests = await requestsOf(options)
  return take(await planModel(source, newest(requests), requests), requests, options)
}

/** Takes one file from the hub into the cache. @returns its path; of a split model the path of the part or index to open */
export async function pullFile(reference: string, options: PullOptions = {}): Promise<string> {
  const requests = await requestsOf(options)
  const found = await planFile(reference, newest(requests), requests)
  await takeAll([found], requests, options)
  return firstPath(found)
}

/**
 * As {@link pull}, but a model that is wholly in the cache is taken as it is, and nobody is asked. Where the hub cannot be asked, an older
 * revision of it will do.
 *
 * @param check may refuse what the headers of the files tell
 */
export async function fromHub(source: string | ModelFiles, options: PullOptions, check: Check): Promise<ModelFiles> {
  const requests = await requestsOf(options)
  return take(await findModel(source, requests), requests, options, check)
}

/** What is known of a model on the hub without a download. */
export interface HubModel {
  /** where its files are, if all are in the cache */
  files?: ModelFiles
  /** of the model files that can be read; of a checkpoint with several networks once */
  headers: ModelFile[]
  family: Family
  networks: OpenNetworks
  /** tokenizers that were given as paths of this machine, and encoders that have theirs beside them */
  local: ModelPlaces
  /** why it cannot be loaded, as far as one network or tokenizer tells */
  problems: FluxError[]
}

/** The headers of the files that `load` would take, read where the files are. */
export async function readHubModel(source: string | ModelFiles, options: PullOptions = {}): Promise<HubModel> {
  const requests = await requestsOf(options)
  const plan = await findModel(source, requests)
  const model = await readHeaders(plan, requests)
  return plan.problems.length === 0 && (await isAllCached(plan))
    ? { ...model, files: await take(plan, requests, options, () => undefined) }
    : model
}

/** The header of one file on the hub, read where the file is. */
export async function readHubFile(reference: string, options: PullOptions = {}): Promise<ModelFile> {
  const requests = await requestsOf(options)
  return openHeader(await planFile(reference, newest(requests), requests), requests)
}

/** Headers by component. */
export type OpenNetworks = Record<string, NetworkFile<NetworkConfigs[NetworkKind]>>

type Check = (family: Family, networks: OpenNetworks, problems: FluxError[]) => void

function throwFirst(_: Family, __: unknown, [problem]: FluxError[]): void {
  if (problem) throw problem
}

/** Where `pull` looks: what the hub has now, as far as it may be asked. */
function newest({ settings: { offline } }: Requests): Where {
  return offline ? 'any revision' : 'hub'
}

/** The files that `load` takes: from the cache if all are there, else from the hub, else, where it cannot be asked, of an older revision. */
async function findModel(source: string | ModelFiles, requests: Requests): Promise<Plan> {
  const plan = await planModel(source, 'cache', requests).catch((error: unknown) => {
    if (!isMissing(error)) throw error
  })
  if (plan && !plan.problems.some(isMissing)) return plan
  if (requests.settings.offline) return planModel(source, 'any revision', requests)
  try {
    return await planModel(source, 'hub', requests)
  } catch (error) {
    if (!isOffline(error)) throw error
    const older = await planModel(source, 'any revision', requests).catch(() => undefined)
    if (!older || older.problems.some(isMissing)) throw error
    return older
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof FluxError && error.code === 'FLUX_NOT_FOUND'
}

async function requestsOf({ signal, onProgress, onWarning, ...hub }: PullOptions): Promise<Requests> {
  requireSignal(signal)
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw badOption('onProgress', onProgress, 'a function')
  if (onWarning !== undefined && typeof onWarning !== 'function') throw badOption('onWarning', onWarning, 'a function')
  return { settings: await hubSettings(hub), signal, warn: onWarning ?? warnProcess }
}

async function take(
  plan: Plan,
  requests: Requests,
  options: PullOptions,
  check: Check = throwFirst,
): Promise<ModelFiles> {
  const { networks, problems } = await readHeaders(plan, requests)
  check(plan.family, networks, problems)
  await takeAll(hubPlaces(plan), requests, options)
  const path = (place: string | HubFiles) => (typeof place === 'string' ? place : firstPath(place))
  // of a tokenizer the folder is given
  const folder = (place: string | HubFiles) => (typeof place === 'string' ? place : dirname(firstPath(place)))
  const each = <T>(places: Record<string, T>, turn: (place: T) => string) =>
    Object.fromEntries(Object.entries(places).map(([name, place]) => [name, turn(place)]))
  return filesAt({ components: each(plan.components, path), tokenizers: each(plan.tokenizers, folder) })
}

/** The files of a plan that are on the hub. */
function hubPlaces({ components, tokenizers }: Plan): HubFiles[] {
  return [...Object.values(components), ...Object.values(tokenizers)].filter((place) => typeof place === 'object')
}

async function isAllCached(plan: Plan): Promise<boolean> {
  return (await Promise.all(hubPlaces(plan).map(isCached))).every(Boolean)
}

async function readHeaders(
  { family, components, tokenizers, ...plan }: Plan,
  requests: Requests,
): Promise<Omit<HubModel, 'files'>> {
  const headers = new Map<string, ModelFile>()
  const networks: OpenNetworks = {}
  const problems = [...plan.problems]
  const local: ModelPlaces = { components: {}, tokenizers: {} }
  for (const [name, { kind, tokenizer }] of Object.entries(family.components)) {
    const place = components[name]
    if (place === undefined) continue
    try {
      const file = await openHeader(place, requests)
      headers.set(file.path, file)
      networks[name] = networkOf(kind, file)
    } catch (error) {
      if (!(error instanceof FluxError) || error.code === 'FLUX_DOWNLOAD') throw error
      problems.push(error)
    }
    if (!tokenizer) continue
    const own = tokenizers[name]
    if (typeof own === 'string') local.tokenizers[name] = own
    if (typeof own !== 'object' && typeof place === 'string') local.components[name] = place
    // the tokenizer of a GGUF file on the hub is inside of it, or nowhere
    const file = networks[name]?.file
    const isAlone = file?.format === 'gguf' && typeof place === 'object' && !own
    if (isAlone && tokenizer.inside !== undefined && !file.metadata.has(tokenizer.inside)) {
      const companion = family.presets.tokenizers[name]
      const remedy = `give its path${companion ? `, or ${companion},` : ''} as tokenizers.${name}`
      problems.push(new FluxError('FLUX_NOT_FOUND', `${file.path}: the file carries no tokenizer; ${remedy}`))
    }
  }
  return { family, headers: [...headers.values()], networks, local, problems }
}

/** The header of a model file, read where the file is. */
async function openHeader(place: string | HubFiles, requests: Requests): Promise<ModelFile> {
  if (typeof place === 'string') return openModelFile(place)
  const { repository, files } = place
  const models = files.filter(({ path }) => !path.endsWith('.json'))
  if (await isCached(place)) {
    if (files.every((file) => sourcePath(repository, file) === snapshotPath(repository, file.path)))
      return openModelFile(firstPath(place))
    const opened = await Promise.all(models.map((file) => withSource(sourcePath(repository, file), openModelFile)))
    return joinParts(firstPath(place), opened)
  }
  const opened = await Promise.all(models.map((file) => openModelFile(remoteFile(repository, file, requests))))
  return opened.length === 1 ? opened[0]! : joinParts(`${repository.reference.text} (${files[0]!.path})`, opened)
}

async function isCached({ repository, files }: HubFiles): Promise<boolean> {
  const there = await Promise.all(files.map((file) => isThere(sourcePath(repository, file), file)))
  return there.every(Boolean)
}

/** Where the cache has a file: in the repository's snapshot, or in another one. */
function sourcePath({ folder, commit }: Repository, { path, commits = [] }: RepositoryFile): string {
  return snapshotPath({ folder, commit: commits.includes(commit) ? commit : (commits[0] ?? commit) }, path)
}

/** Links files that belong together, but are in several snapshots, into one: whoever opens the first looks for the others in its folder. */
async function gather({ repository, files }: HubFiles, { settings: { cacheDir } }: Requests): Promise<void> {
  for (const file of files) {
    const [from, to] = [sourcePath(repository, file), snapshotPath(repository, file.path)]
    if (from === to) continue
    const blob = await readlink(from).then(
      (target) => resolve(dirname(from), target),
      () => from,
    )
    await linkTo(repository, blob, to).catch((error: Error) => {
      throw isFileError(error) ? cacheError(cacheDir, error) : error
    })
  }
}

/** Downloads one after the other; no progress is reported where all is there. Then the cache learns which commits these are. */
async function takeAll(places: HubFiles[], requests: Requests, { onProgress }: PullOptions): Promise<void> {
  for (const place of places) await gather(place, requests)
  if (!(await Promise.all(places.map(isCached))).every(Boolean)) {
    const total = places.reduce((sum, { files }) => sum + files.reduce((bytes, { size }) => bytes + size, 0), 0)
    let done = 0
    for (const { repository, files } of places) {
      for (const file of files)
        await download(repository, file, requests, (bytes) => onProgress?.((done += bytes), total))
    }
  }
  for (const { repository, files } of places) {
    if (files.some(({ hash }) => hash === undefined)) continue
    await noteRevision(repository).catch((error: Error) => {
      throw isFileError(error) ? cacheError(requests.settings.cacheDir, error) : error
    })
  }
}

/** Where the file to open is, once all are in the cache. */
function firstPath({ repository, files }: HubFiles): string {
  return snapshotPath(repository, files[0]!.path)
}
