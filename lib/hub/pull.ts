import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { FluxError } from '../errors.js'
import { checkModelFiles, type ModelFiles } from '../models/locate.js'
import { openModelFile, type ModelFile } from '../models/model-file.js'
import { networkOf, type Networks } from '../models/network-file.js'
import { KIND_OF_PART, PARTS, type Part } from '../models/parts.js'
import { joinParts } from '../models/split.js'
import { badOption, requireSignal } from '../option-checks.js'
import { download } from './download.js'
import { isOnHub, notOnHub, planFile, planModel, type HubFiles, type Plan } from './plan.js'
import { isReference } from './reference.js'
import { remoteFile } from './remote-file.js'
import { snapshotPath } from './repository.js'
import type { Requests } from './requests.js'
import { hubSettings, type HubOptions } from './settings.js'

export interface PullOptions extends HubOptions {
  signal?: AbortSignal
  /** bytes that are in the cache, and in all */
  onProgress?: (done: number, total: number) => void
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
  return take(await planModel(source, requests.settings.offline ? 'cache' : 'hub', requests), requests, options)
}

/** Takes one file from the hub into the cache. @returns its path; of a split model the path of the part or index to open */
export async function pullFile(reference: string, options: PullOptions = {}): Promise<string> {
  const requests = await requestsOf(options)
  const found = await planFile(reference, requests.settings.offline ? 'cache' : 'hub', requests)
  await takeAll([found], requests, options)
  return firstPath(found)
}

/**
 * As {@link pull}, but a model that is wholly in the cache is taken as it is, and nobody is asked.
 *
 * @param check may refuse what the headers of the files tell
 */
export async function fromHub(source: string | ModelFiles, options: PullOptions, check: (networks: Networks) => void): Promise<ModelFiles> {
  const requests = await requestsOf(options)
  const cached = await planModel(source, 'cache', requests).catch((error: unknown) => {
    if (requests.settings.offline || !(error instanceof FluxError) || error.code !== 'FLUX_NOT_FOUND') throw error
  })
  return take(cached ?? (await planModel(source, 'hub', requests)), requests, options, check)
}

/** The headers of a model on the hub, or of one file there; what is in the cache is read there. Nothing is downloaded. */
export async function headersFromHub(source: string | ModelFiles, options: PullOptions = {}): Promise<ModelFile[]> {
  const requests = await requestsOf(options)
  const where = requests.settings.offline ? 'cache' : 'hub'
  const isFile = typeof source === 'string' && isReference(source)
  const places = isFile ? [await planFile(source, where, requests)] : Object.values((await planModel(source, where, requests)).parts)
  return Promise.all(places.map((place) => openHeader(place, requests)))
}

async function requestsOf({ signal, onProgress, ...hub }: PullOptions): Promise<Requests> {
  requireSignal(signal)
  if (onProgress !== undefined && typeof onProgress !== 'function') throw badOption('onProgress', onProgress, 'a function')
  return { settings: await hubSettings(hub), signal }
}

async function take({ parts, tokenizers, previewDecoder }: Plan, requests: Requests, options: PullOptions, check?: (networks: Networks) => void): Promise<ModelFiles> {
  const header = async <P extends Part>(part: P) => networkOf<(typeof KIND_OF_PART)[P]>(KIND_OF_PART[part], await openHeader(parts[part], requests))
  const networks = { transformer: await header('transformer'), t5: await header('t5'), clip: await header('clip'), vae: await header('vae') }
  check?.(networks)
  const places = [...PARTS.map((part) => parts[part]), tokenizers.t5, tokenizers.clip, previewDecoder]
  await takeAll(places.filter((place) => typeof place === 'object'), requests, options)
  const path = (place: string | HubFiles) => (typeof place === 'string' ? place : firstPath(place))
  // of a tokenizer the folder is given
  const folder = (place: string | HubFiles) => (typeof place === 'string' ? place : dirname(firstPath(place)))
  return {
    transformer: path(parts.transformer),
    t5: path(parts.t5),
    clip: path(parts.clip),
    vae: path(parts.vae),
    ...(previewDecoder ? { previewDecoder: path(previewDecoder) } : {}),
    tokenizers: { ...(tokenizers.t5 ? { t5: folder(tokenizers.t5) } : {}), ...(tokenizers.clip ? { clip: folder(tokenizers.clip) } : {}) },
  }
}

/** The header of a model file, read where the file lies. */
async function openHeader(place: string | HubFiles, requests: Requests): Promise<ModelFile> {
  if (typeof place === 'string') return openModelFile(place)
  const { repository, files } = place
  if (await isCached(place)) return openModelFile(firstPath(place))
  const models = files.filter(({ path }) => !path.endsWith('.json'))
  const opened = await Promise.all(models.map((file) => openModelFile(remoteFile(repository, file, requests))))
  return opened.length === 1 ? opened[0]! : joinParts(`${repository.reference.text} (${files[0]!.path})`, opened)
}

async function isCached({ repository, files }: HubFiles): Promise<boolean> {
  const there = await Promise.all(files.map(({ path, size }) => stat(snapshotPath(repository, path)).then((found) => found.size === size, () => false)))
  return there.every(Boolean)
}

/** Downloads one after the other; nothing is told where all is there. */
async function takeAll(places: HubFiles[], requests: Requests, { onProgress }: PullOptions): Promise<void> {
  if ((await Promise.all(places.map(isCached))).every(Boolean)) return
  const total = places.reduce((sum, { files }) => sum + files.reduce((bytes, { size }) => bytes + size, 0), 0)
  let done = 0
  for (const { repository, files } of places) {
    for (const file of files) await download(repository, file, requests, (bytes) => onProgress?.((done += bytes), total))
  }
}

/** Where the file to open is, once all are in the cache. */
function firstPath({ repository, files }: HubFiles): string {
  return snapshotPath(repository, files[0]!.path)
}
