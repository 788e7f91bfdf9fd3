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
import {
  isOnHub,
  notOnHub,
  planFile,
  planModel,
  warnOfNamesakes,
  type HubFiles,
  type Plan,
  type Where,
} from './plan.js'
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
  /** bytes that are in the cache, and the total */
  onProgress?: (done: number, total: number) => void
  /** receives warnings, such as that an older revision had to be used @default process.emitWarning */
  onWarning?: (message: string) => void
}

/**
 * Downloads a model from the hub into the cache that all of Hugging Face's tools share, and returns the paths of its
 * files. Files already in the cache are not downloaded again, and interrupted downloads are resumed. The headers are
 * read before the files are downloaded, so that an unsuitable file costs only a few requests.
 *
 * @param source 'flux.1-schnell', 'flux.1-dev:Q8_0', 'hf:owner/name:Q4_K_S', or files, with such names among them
 * @throws {FluxError} FLUX_BAD_OPTION, FLUX_NOT_FOUND, FLUX_DOWNLOAD, FLUX_BAD_FILE, FLUX_UNSUPPORTED; the signal's
 *   reason when aborted
 */
export async function pull(source: string | ModelFiles, options: PullOptions = {}): Promise<ModelFiles> {
  if (typeof source !== 'string') checkModelFiles(source)
  else if (!isOnHub(source)) throw notOnHub(source)
  const requests = await requestsOf(options, source)
  return take(await planModel(source, newest(requests), requests), requests, options)
}

/**
 * Downloads one file from the hub into the cache.
 *
 * @param reference 'hf:owner/name:file', or a preset
 * @returns its path; for a split model, the path of the part or index to open
 */
export async function pullFile(reference: string, options: PullOptions = {}): Promise<string> {
  return (await pullFiles({ file: reference }, options)).file!
}

/** Like {@link pullFile}, for several files: paths in place of the references. */
export async function pullFiles(
  references: Record<string, string>,
  options: PullOptions,
): Promise<Record<string, string>> {
  const requests = await requestsOf(options, ...Object.values(references))
  const found: [name: string, files: HubFiles][] = []
  for (const [name, text] of Object.entries(references))
    found.push([name, await planFile(text, newest(requests), requests)])
  await takeAll(
    found.map(([, files]) => files),
    requests,
    options,
  )
  return Object.fromEntries(found.map(([name, files]) => [name, firstPath(files)]))
}

/** Like {@link pullFile}, but a file in the cache is used without any request, or an older one without the hub. */
export async function fileFromHub(reference: string, options: PullOptions): Promise<string> {
  const requests = await requestsOf(options, reference)
  const found = await cacheFirst(
    (where) => planFile(reference, where, requests),
    () => true,
    requests,
  )
  await takeAll([found], requests, options)
  return firstPath(found)
}

/**
 * Like {@link pull}, but a model that is completely in the cache is used without any request. If the hub is not
 * reachable, an older revision is used.
 *
 * @param check may reject the files based on their headers
 */
export async function fromHub(source: string | ModelFiles, options: PullOptions, check: Check): Promise<ModelFiles> {
  const requests = await requestsOf(options, source)
  return take(await findModel(source, requests), requests, options, check)
}

/** What can be learned about a model on the hub without a download. */
export interface HubModel {
  /** the paths of its files, if all are in the cache */
  files?: ModelFiles
  /** headers of the readable model files; a checkpoint with several networks is listed once */
  headers: ModelFile[]
  family: Family
  networks: OpenNetworks
  /** tokenizers given as local paths, and encoders with tokenizers next to them */
  local: ModelPlaces
  /** why the model cannot be loaded, as far as single networks or tokenizers show */
  problems: FluxError[]
}

/** Reads the headers of the files that `load` would use, without a download. */
export async function readHubModel(source: string | ModelFiles, options: PullOptions = {}): Promise<HubModel> {
  const requests = await requestsOf(options, source)
  const plan = await findModel(source, requests)
  const model = await readHeaders(plan, requests)
  return plan.problems.length === 0 && (await isAllCached(plan))
    ? { ...model, files: await take(plan, requests, options, () => undefined) }
    : model
}

/** Reads the header of one file on the hub, without a download. */
export async function readHubFile(reference: string, options: PullOptions = {}): Promise<ModelFile> {
  const requests = await requestsOf(options, reference)
  return openHeader(await planFile(reference, newest(requests), requests), requests)
}

/** Headers by component. */
export type OpenNetworks = Record<string, NetworkFile<NetworkConfigs[NetworkKind]>>

type Check = (family: Family, networks: OpenNetworks, problems: FluxError[]) => void

function throwFirst(_: Family, __: unknown, [problem]: FluxError[]): void {
  if (problem) throw problem
}

/** Where `pull` looks: on the hub, or in the cache when offline. */
function newest({ settings: { offline } }: Requests): Where {
  return offline ? 'any revision' : 'hub'
}

/** Finds the files that `load` uses. */
function findModel(source: string | ModelFiles, requests: Requests): Promise<Plan> {
  const isComplete = ({ problems }: Plan) => !problems.some(isMissing)
  return cacheFirst((where) => planModel(source, where, requests), isComplete, requests)
}

/**
 * Finds files in the cache if all are there, otherwise on the hub, or in an older revision if the hub is not reachable.
 */
async function cacheFirst<T>(
  plan: (where: Where) => Promise<T>,
  isComplete: (found: T) => boolean,
  { settings: { offline } }: Requests,
): Promise<T> {
  const cached = await plan('cache').catch((error: unknown) => {
    if (!isMissing(error)) throw error
  })
  if (cached !== undefined && isComplete(cached)) return cached
  if (offline) return plan('any revision')
  try {
    return await plan('hub')
  } catch (error) {
    if (!isOffline(error)) throw error
    const older = await plan('any revision').catch(() => undefined)
    if (older === undefined || !isComplete(older)) throw error
    return older
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof FluxError && error.code === 'FLUX_NOT_FOUND'
}

/** @param sources what is looked for, which may be named like a preset by mistake */
async function requestsOf(
  { signal, onProgress, onWarning, ...hub }: PullOptions,
  ...sources: (string | ModelFiles)[]
): Promise<Requests> {
  requireSignal(signal)
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw badOption('onProgress', onProgress, 'a function')
  if (onWarning !== undefined && typeof onWarning !== 'function') throw badOption('onWarning', onWarning, 'a function')
  const settings = await hubSettings(hub)
  const warn = onWarning ?? warnProcess
  for (const source of sources) await warnOfNamesakes(source, warn)
  return { settings, signal, warn }
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
  // a tokenizer is returned as its folder
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
    // for a GGUF file on the hub, the tokenizer must be inside the file
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

/** Reads the header of a model file, locally or on the hub. */
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

/** The path of a file in the cache: in the repository's snapshot or in another one. */
function sourcePath({ folder, commit }: Repository, { path, commits = [] }: RepositoryFile): string {
  return snapshotPath({ folder, commit: commits.includes(commit) ? commit : (commits[0] ?? commit) }, path)
}

/**
 * Links related files from several snapshots into one, because a reader of the first file looks for the others in the
 * same folder.
 */
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

/**
 * Downloads the files one after the other. No progress is reported if all are in the cache. Afterwards the cache notes
 * their commits.
 */
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

/** The path of the file to open, once all files are in the cache. */
function firstPath({ repository, files }: HubFiles): string {
  return snapshotPath(repository, files[0]!.path)
}
