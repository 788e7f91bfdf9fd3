import { readdir, stat } from 'node:fs/promises'
import { basename, extname, join, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import { componentsFor, denoiserOf, type Family, type Variant } from '../families/family.js'
import { families, type ModelFiles } from '../families/registry.js'
import { presetNames } from '../hub/presets.js'
import { chooseModelFiles, isModelName, isPartFolder, surveyFolder } from '../model/locate.js'
import { placesOf } from '../model/model-files.js'
import { networksIn } from '../networks/network-file.js'
import { completeOptions } from '../pipeline/generate-options.js'
import { openModel, resolveSource, type CompleteModel } from '../pipeline/open-model.js'
import { tinyModelFiles } from '../model/bundled-model.js'
import type { JobRequest, ModelDescription } from './queue.js'
import { granted } from './wishes.js'

/** A model that can be loaded. */
export interface CatalogueEntry extends Described {
  files: ModelFiles
}

interface Described {
  description: ModelDescription
  family: Family
  variant: Variant
}

/** The kinds of files that a request may name, and ComfyUI's folders for them. */
const FILE_FOLDERS = {
  lora: ['loras'],
  controlNet: ['controlnet'],
  ipAdapter: ['ipadapter-flux', 'ipadapter'],
  upscaler: ['upscale_models'],
} as const

export type FileKind = keyof typeof FILE_FOLDERS

export interface CatalogueOptions {
  /** folder of models, with ComfyUI's subfolders or one subfolder for each model @default none */
  folder?: string
  /** folder of LoRAs @default `loras` in `folder` */
  loras?: string
  /** a model by the name that clients use, for those that are not in the folder */
  models?: Record<string, string | ModelFiles>
  /** whether the models in the hub's cache are offered @default true */
  cached?: boolean
}

/** a listing is read again after this time, in milliseconds */
const FRESH_MS = 15_000
/** depth of subfolders that are read, and the most files */
const [MOST_DEPTH, MOST_FILES] = [4, 10_000]

/**
 * The models and files that requests may name. A name is looked up in a listing of the folders and is never part of a
 * path.
 */
export class ModelCatalogue {
  readonly #options: CatalogueOptions
  readonly #listings = new Map<string, { at: number; value: Promise<unknown> }>()
  /** by the paths of a model's files and the time of their last change */
  readonly #described = new Map<string, Promise<Described>>()

  constructor(options: CatalogueOptions = {}) {
    this.#options = options
  }

  /** The models by name. Those that cannot be loaded are left out, see `problems`. */
  async models(): Promise<Map<string, CatalogueEntry>> {
    return (await this.#listing()).models
  }

  /** Why models of the folder are left out, with the remedies. */
  async problems(): Promise<string[]> {
    return (await this.#listing()).problems
  }

  /** @throws {FluxError} FLUX_NOT_FOUND with the names that there are */
  async model(name: string): Promise<CatalogueEntry> {
    const known = (await this.models()).get(name)
    if (known) return known
    this.#renew('models')
    const models = await this.models()
    return models.get(name) ?? missing('model', name, [...models.keys()], '--models')
  }

  /**
   * Checks a request as far as that is possible without its images.
   *
   * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_OPTION
   */
  async check({ model, options, wishes = {} }: JobRequest): Promise<void> {
    const { description, family, variant } = await this.model(model)
    completeOptions(granted(options, wishes, description.defaults), family, variant)
    for (const { path } of options.loras ?? []) await this.file('lora', path)
    for (const { path } of options.controlNets ?? []) await this.file('controlNet', path)
    for (const { path } of options.ipAdapters ?? []) await this.file('ipAdapter', path)
    if (options.hires?.upscaler !== undefined) await this.file('upscaler', options.hires.upscaler)
  }

  /** The names of the files of a kind, without suffix and with `/` between folder and file. */
  async names(kind: FileKind): Promise<string[]> {
    return [...(await this.#files(kind)).keys()].sort()
  }

  /** @throws {FluxError} FLUX_NOT_FOUND */
  async file(kind: FileKind, name: string): Promise<string> {
    const bare = name.replace(/\.(gguf|safetensors|sft|pth)$/i, '')
    const known = (await this.#files(kind)).get(bare)
    if (known !== undefined) return known
    this.#renew(kind)
    const files = await this.#files(kind)
    return files.get(bare) ?? missing(kind, name, [...files.keys()], kind === 'lora' ? '--loras' : '--models')
  }

  /** Forgets a listing that misses something, unless it is from this second: it may have been added just now. */
  #renew(key: string): void {
    if (Date.now() - (this.#listings.get(key)?.at ?? 0) > 1000) this.#listings.delete(key)
  }

  #listing(): Promise<{ models: Map<string, CatalogueEntry>; problems: string[] }> {
    return this.#fresh('models', async () => {
      const { folder, loras, models = {}, cached = true } = this.#options
      const entries = new Map<string, CatalogueEntry>()
      const problems: string[] = []
      if (loras !== undefined && !(await stat(loras).catch(() => undefined))?.isDirectory())
        problems.push(`the folder of LoRAs ${loras} is no folder`)
      const add = async (name: string, find: () => ModelFiles | Promise<ModelFiles>, report: boolean) => {
        if (entries.has(name)) return
        try {
          const files = await find()
          entries.set(name, { ...(await this.#describe(name, files)), files })
        } catch (error) {
          if (!(error instanceof FluxError)) throw error
          if (report) problems.push(`the model ${name} is left out: ${error.message}`)
        }
      }
      for (const [name, source] of Object.entries(models)) await add(name, () => resolveSource(source), true)
      await add('tiny', tinyModelFiles, true)
      const located = folder === undefined ? [] : await modelsIn(folder, problems)
      for (const [name, find] of located) await add(name, find, true)
      const inCache = { offline: true, onWarning: () => {} }
      if (cached) for (const name of presetNames()) await add(name, () => resolveSource(name, inCache), false)
      return { models: entries, problems }
    })
  }

  async #describe(name: string, files: ModelFiles): Promise<Described> {
    const { components, tokenizers } = placesOf(files)
    const paths = [...Object.values(components), ...Object.values(tokenizers)]
    const times = await Promise.all(
      paths.map((path) =>
        stat(path).then(
          ({ mtimeMs }) => mtimeMs,
          () => 0,
        ),
      ),
    )
    const key = JSON.stringify([name, paths, times])
    const known = this.#described.get(key)
    if (known) return known
    const described = openModel(files, { onWarning: () => {} }).then((model) =>
      describe(name, model, Math.max(...times)),
    )
    this.#described.set(key, described)
    described.catch(() => this.#described.delete(key))
    return described
  }

  #files(kind: FileKind): Promise<Map<string, string>> {
    return this.#fresh(kind, async () => {
      const { folder, loras } = this.#options
      const own = kind === 'lora' && loras !== undefined ? [loras] : []
      const folders = folder === undefined ? own : [...own, ...FILE_FOLDERS[kind].map((name) => join(folder, name))]
      const found = new Map<string, string>()
      for (const place of folders) await listFiles(place, '', found)
      return found
    })
  }

  /** Forgets the listings: the next call reads from the folders. */
  refresh(): void {
    this.#listings.clear()
  }

  /** A listing as it is known; an old one is read again for the next call. Headers of many files take seconds. */
  #fresh<T>(key: string, find: () => Promise<T>): Promise<T> {
    const known = this.#listings.get(key)
    if (known && Date.now() - known.at < FRESH_MS) return known.value as Promise<T>
    const value = find()
    const listing = { at: Date.now(), value: known ? known.value : value }
    this.#listings.set(key, listing)
    value.then(
      () => (listing.value = value),
      () => this.#listings.get(key) === listing && this.#listings.delete(key),
    )
    return listing.value as Promise<T>
  }
}

function describe(name: string, { family, networks, variant }: CompleteModel, changedAt: number): Described {
  const { width, height, steps, guidance } = variant.defaults
  const required = Object.keys(networks).filter((name) => family.components[name]!.required)
  const description = {
    name,
    changedAt: Math.round(changedAt),
    bytes: required.reduce((sum, name) => sum + networks[name]!.bytes, 0),
    defaults: { width, height, steps, guidance: guidance ?? null },
    reads: variant.reads ?? null,
    editsReferences: variant.editsReferences ?? false,
    components: Object.keys(networks),
    hasPreviewDecoder: componentsFor(family, 'preview').some((name) => networks[name] !== undefined),
  }
  return { description, family, variant }
}

/**
 * The models in a folder, by name, with a function that finds their files: those with ComfyUI's layout in the folder
 * itself, and those in subfolders of their own.
 */
async function modelsIn(folder: string, problems: string[]): Promise<Map<string, () => Promise<ModelFiles>>> {
  const found = new Map<string, () => Promise<ModelFiles>>()
  const kinds = families().map((family) => family.components[denoiserOf(family)]!.kind as string)
  const look = async (place: string, prefix: string): Promise<void> => {
    const { files, strays } = await surveyFolder(place)
    const denoisers = files.filter((file) => networksIn(file).some((kind) => kinds.includes(kind)))
    for (const denoiser of denoisers) {
      const others = files.filter((file) => file === denoiser || !denoisers.includes(file))
      const name = denoisers.length === 1 && prefix !== '' ? prefix : nameOf(denoiser.path, prefix)
      if (!found.has(name)) found.set(name, () => chooseModelFiles(place, { files: others, strays }))
    }
  }
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: Error) => {
    problems.push(`the folder ${folder} cannot be read: ${error.message}`)
    return []
  })
  if (entries.length > 0) await look(folder, '')
  for (const { name } of entries) {
    if (name.startsWith('.') || isPartFolder(name) || isModelName(name)) continue
    const path = join(folder, name)
    if ((await stat(path).catch(() => undefined))?.isDirectory()) await look(path, name)
  }
  return found
}

function nameOf(path: string, prefix: string): string {
  const name = basename(path, extname(path))
  return prefix === '' ? name : `${prefix}/${name}`
}

async function listFiles(folder: string, prefix: string, found: Map<string, string>): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  for (const { name } of entries) {
    if (name.startsWith('.') || found.size >= MOST_FILES) continue
    const path = resolve(folder, name)
    const entry = await stat(path).catch(() => undefined)
    if (entry?.isDirectory() && prefix.split('/').length <= MOST_DEPTH)
      await listFiles(path, `${prefix}${name}/`, found)
    else if (entry?.isFile() && isModelName(name)) {
      const known = prefix + basename(name, extname(name))
      if (!found.has(known)) found.set(known, path)
    }
  }
}

function missing(kind: string, name: string, names: string[], option: string): never {
  const shown = names.length > 0 ? `there are ${names.slice(0, 20).join(', ')}` : `no folder with any was given`
  throw new FluxError(
    'FLUX_NOT_FOUND',
    `there is no ${kind} named '${name.slice(0, 100)}'; ${shown}. The server finds more in the folder given with ${option}`,
  )
}
