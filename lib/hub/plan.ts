import { stat } from 'node:fs/promises'
import { defined } from '../options/defined.js'
import { FluxError } from '../errors.js'
import { denoiserOf, type Family, type TokenizerSource } from '../families/family.js'
import { defaultFamily, families, familiesWith, type ModelFiles } from '../families/registry.js'
import { isModelName } from '../model/locate.js'
import { placesOf, type ModelPlaces } from '../model/model-files.js'
import { findPreset, presetNames, presetReference } from './presets.js'
import { isReference, parseReference } from './reference.js'
import { listCached, listRemote, type Repository, type RepositoryFile } from './repository.js'
import type { Requests } from './requests.js'
import { selectModel, selectTokenizer } from './select.js'

/** Files of a repository that belong together. The first one is the one to open. */
export interface HubFiles {
  repository: Repository
  files: RepositoryFile[]
}

/**
 * The source of a listing: the hub, the cache without any request, or the cache including revisions older than the
 * noted one.
 */
export type Where = 'hub' | 'cache' | 'any revision'

/** The location of every component and tokenizer of a model: on this machine or on the hub. */
export interface Plan extends ModelPlaces<string | HubFiles> {
  family: Family
  /** why components or tokenizers are missing */
  problems: FluxError[]
}

/**
 * Whether a model, a part of it or a single file is on the hub: `flux.1-dev`, `flux.1-dev:Q8_0`, `flux.1-redux-dev`,
 * `hf:owner/name:Q4_K_S`.
 */
export function isOnHub(source: string | ModelFiles): boolean {
  if (typeof source === 'string') return isReference(source) || presetReference(source) !== undefined
  const { components, tokenizers } = placesOf(source)
  return [...Object.values(components), ...Object.values(tokenizers)].some(
    (path) => typeof path === 'string' && isOnHub(path),
  )
}

/**
 * Finds the files of a model. A single name means either a denoiser with the components that its family's models share,
 * or a repository in the diffusers layout.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_OPTION if a model given by a single name does not exist; FLUX_DOWNLOAD
 */
export async function planModel(source: string | ModelFiles, where: Where, requests: Requests): Promise<Plan> {
  const find = finder(where, requests)
  let family: Family
  let places: ModelPlaces
  if (typeof source === 'string') {
    const preset = findPreset(source)
    if (preset?.isFile) throw noModel(source)
    const text = preset?.reference ?? source
    const { which } = parseReference(text)
    const found = await find(text, (repository) => {
      const laidOut = which === undefined ? familyLaidOut(repository) : undefined
      return laidOut ? diffusersPlan(laidOut, repository, where) : modelIn(repository)
    })
    if ('components' in found) return found
    family = preset?.family ?? defaultFamily()
    places = { components: { [denoiserOf(family)]: text, ...family.presets.companions }, tokenizers: {} }
  } else {
    places = withNeeds(placesOf(source))
    family = familiesWith(Object.keys(places.components)).at(-1) ?? defaultFamily()
  }
  const problems: FluxError[] = []
  const choose = async (path: string | undefined, files: (repository: Repository) => HubFiles) => {
    if (path === undefined || !isOnHub(path)) return path
    return find(presetReference(path) ?? path, files).catch((error: unknown) => noted(error, problems))
  }
  const components: Record<string, string | HubFiles | undefined> = {}
  for (const name of Object.keys(family.components)) components[name] = await choose(places.components[name], modelIn)
  const tokenizers: Record<string, string | HubFiles | undefined> = {}
  for (const [name, { tokenizer }] of Object.entries(family.components)) {
    if (!tokenizer) continue
    const place = components[name]
    // a GGUF file may contain the tokenizer; the tokenizer of a local file is looked for on this machine
    const isNeeded = typeof place === 'object' && !(tokenizer.inside && /\.gguf$/i.test(place.files[0]!.path))
    const companion = isNeeded ? family.presets.tokenizers[name] : undefined
    tokenizers[name] = await choose(places.tokenizers[name] ?? companion, tokenizerIn(tokenizer))
  }
  return { family, components: defined(components), tokenizers: defined(tokenizers), problems } as Plan
}

/** Adds what the presets among the components do not work without, where it is not given. */
function withNeeds({ components, tokenizers }: ModelPlaces): ModelPlaces {
  const needs = Object.values(components).flatMap((place) => Object.entries(findPreset(place)?.needs ?? {}))
  return { components: { ...Object.fromEntries(needs), ...components }, tokenizers }
}

/** The family whose diffusers folders a repository has. If several match, the one with the most folders. */
function familyLaidOut({ files }: Repository): Family | undefined {
  const has = (folder: string | undefined) => files.some(({ path }) => path.startsWith(`${folder}/`))
  const folders = ({ components }: Family) =>
    Object.values(components).filter(({ hubFolder }) => hubFolder !== undefined && has(hubFolder)).length
  const possible = families().filter((family) => has(family.components[denoiserOf(family)]!.hubFolder))
  return possible.toSorted((a, b) => folders(b) - folders(a))[0]
}

function noted(error: unknown, problems: FluxError[]): undefined {
  if (!(error instanceof FluxError) || error.code === 'FLUX_DOWNLOAD') throw error
  problems.push(error)
}

export function notOnHub(text: string): FluxError {
  return new FluxError(
    'FLUX_BAD_OPTION',
    `'${text}' names nothing on the hub: give ${presetNames().join(', ')}, or hf:owner/name:file`,
  )
}

function noModel(name: string): FluxError {
  const remedy = 'Give it where this file belongs, or download it with pullFile()'
  return new FluxError('FLUX_BAD_OPTION', `'${name}' is one file, not a model. ${remedy}`)
}

/**
 * Refuses a text that can only be a misspelt preset: it begins as a family's presets do, and no file has this name.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, with the names of the presets
 */
export async function refuseUnknownPreset(text: string): Promise<void> {
  const family = families().find(({ id }) => text.toLowerCase().startsWith(`${id}-`))
  if (!family || isOnHub(text) || isModelName(text) || /[\\/]/.test(text) || (await exists(text))) return
  const names = presetNames([family]).join(', ')
  throw new FluxError(
    'FLUX_NOT_FOUND',
    `'${text}' is no preset and no file: give ${names}, hf:owner/name:file or a path`,
  )
}

/**
 * Warns if a preset has the name of a file or folder here. The preset is used, because the same call should not mean
 * something else in another working directory.
 */
export async function warnOfNamesakes(source: string | ModelFiles, warn: (message: string) => void): Promise<void> {
  const names = typeof source === 'string' ? [source] : Object.values(placesOf(source).components)
  for (const name of new Set(names)) {
    if (presetReference(name) === undefined || !(await exists(name))) continue
    warn(`'${name}' is a preset, so the file or folder with this name is not used. Give ./${name} for it`)
  }
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** Finds one file on the hub, with its other parts if it is split. */
export async function planFile(text: string, where: Where, requests: Requests): Promise<HubFiles> {
  const reference = presetReference(text) ?? text
  if (!isReference(reference)) throw notOnHub(text)
  return finder(where, requests)(reference, modelIn)
}

function modelIn(repository: Repository): HubFiles {
  return inOneSnapshot({ repository, files: selectModel(repository) })
}

function tokenizerIn({ folder, files }: TokenizerSource): (repository: Repository) => HubFiles {
  return (repository) => inOneSnapshot({ repository, files: selectTokenizer(repository, folder, files) })
}

/**
 * Takes the files of a listing of several snapshots from one snapshot that has them all. If there is none, they will be
 * linked into one.
 */
function inOneSnapshot({ repository, files }: HubFiles): HubFiles {
  const commits = files[0]?.commits
  if (!commits) return { repository, files }
  const commit = commits.find((commit) => files.every((file) => file.commits?.includes(commit))) ?? commits[0]!
  return { repository: { ...repository, commit }, files }
}

/**
 * On the hub, a missing file is recorded as a problem. In the cache it is an error, because another listing may have
 * the file.
 */
function diffusersPlan(family: Family, repository: Repository, where: Where): Plan {
  const problems: FluxError[] = []
  const choose = (files: () => HubFiles) => {
    try {
      return files()
    } catch (error) {
      if (where !== 'hub') throw error
      return noted(error, problems)
    }
  }
  const inFolder = (folder: string) =>
    choose(() => {
      const files = repository.files.filter(({ path }) => path.startsWith(`${folder}/`))
      // smaller copies of the model in the same repository are called variants
      const usual = files.filter(({ path }) => !/\.(fp16|bf16|fp8)[.-]/i.test(path))
      const index = usual.find(({ path }) => path.endsWith('.safetensors.index.json'))
      const reference = {
        ...repository.reference,
        text: `${repository.reference.text} (${folder}/)`,
        ...(index ? { which: index.path } : {}),
      }
      return inOneSnapshot({ repository, files: selectModel({ ...repository, reference, files: usual }) })
    })
  const components: Record<string, HubFiles | undefined> = {}
  const tokenizers: Record<string, HubFiles | undefined> = {}
  const all = Object.entries(family.components)
  for (const [name, { hubFolder }] of all) if (hubFolder !== undefined) components[name] = inFolder(hubFolder)
  for (const [name, { tokenizer }] of all)
    if (tokenizer) tokenizers[name] = choose(() => tokenizerIn(tokenizer)(repository))
  return { family, components: defined(components), tokenizers: defined(tokenizers), problems } as Plan
}

/**
 * Chooses files in the repository of a reference. In the cache, it uses the first listing that has them. A repository
 * is listed only once, no matter how many files are chosen from it.
 */
function finder(
  where: Where,
  requests: Requests,
): <T>(text: string, choose: (repository: Repository) => T) => Promise<T> {
  const known = new Map<string, Promise<Repository[]>>()
  const warned = new Set<string>()
  return async (text, choose) => {
    const reference = parseReference(text)
    const key = `${reference.repository}@${reference.revision}`
    const listings =
      known.get(key) ??
      (where === 'hub'
        ? listRemote(reference, requests).then((one) => [one])
        : listCached(reference, requests.settings.cacheDir, where === 'any revision'))
    known.set(key, listings)
    let failure: FluxError | undefined
    for (const repository of await listings) {
      try {
        const chosen = choose({ ...repository, reference })
        if (repository.older && !warned.has(key)) requests.warn(olderRevision(text, repository.commit))
        if (repository.older) warned.add(key)
        return chosen
      } catch (error) {
        if (!(error instanceof FluxError)) throw error
        failure ??= error
      }
    }
    if (failure && (where === 'hub' || failure.code !== 'FLUX_NOT_FOUND')) throw failure
    const { cacheDir } = requests.settings
    const missing = `${text} is not in the cache ${cacheDir}. Run \`ggflux pull ${text}\` while the hub can be reached`
    throw new FluxError('FLUX_NOT_FOUND', missing, { cause: failure })
  }
}

function olderRevision(text: string, commit: string): string {
  return `${text}: the cache does not have the files of the newest revision it knows; those of revision ${commit} are used. Run \`ggflux pull\` to update it`
}
