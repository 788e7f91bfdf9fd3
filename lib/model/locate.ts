import { readdir, stat } from 'node:fs/promises'
import { dirname, extname, join, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import { denoiserOf, requiredComponents, type TokenizerSource } from '../families/family.js'
import { families, familyOf, filesInWords, type ModelFiles } from '../families/registry.js'
import { openModelFile } from '../formats/open.js'
import type { ModelFile } from '../formats/model-file.js'
import { networkOf, networksIn, type NetworkFile } from '../networks/network-file.js'
import type { NetworkConfigs, NetworkKind } from '../networks/registry.js'
import { filesAt } from './model-files.js'
import { isLaterPart } from '../formats/shards.js'

/** `.sft` is the suffix that the official files had at first. */
const MODEL_SUFFIXES = ['.gguf', '.safetensors', '.sft']

/** Whether a file's name is that of a model. Its header determines the content. */
export function isModelName(path: string): boolean {
  return MODEL_SUFFIXES.includes(extname(path).toLowerCase()) && !isLaterPart(path)
}

/** ComfyUI's folders. The first entry is the folder itself, where all files may be together. */
const FOLDERS = [
  '',
  'unet',
  'diffusion_models',
  'text_encoders',
  'clip',
  'checkpoints',
  'vae_approx',
  'clip_vision',
  'style_models',
]

/** ComfyUI's folders for files that belong to no model. */
const OTHER_FOLDERS = ['loras', 'controlnet', 'ipadapter', 'ipadapter-flux', 'upscale_models', 'embeddings']

/** The folders of diffusers repositories. */
function hubFolders(): string[] {
  return families().flatMap(({ components }) => Object.values(components).flatMap(({ hubFolder }) => hubFolder ?? []))
}

/** Whether a folder of this name holds parts of models, and is no model itself. */
export function isPartFolder(name: string): boolean {
  return [...FOLDERS, ...hubFolders(), ...OTHER_FOLDERS].includes(name)
}

/** The contents of the usual locations in a folder. */
export interface Survey {
  files: ModelFile[]
  /** why other files there, with the name of a model, are left out */
  strays: string[]
}

/**
 * Finds the parts of a model in a folder or in one file. It recognises them by their tensors, not by their names.
 *
 * @throws {FluxError} FLUX_NOT_FOUND if the folder or a part of the model is missing; FLUX_BAD_OPTION if a part is
 *   there twice
 */
export async function locateModelFiles(place: string): Promise<ModelFiles> {
  return chooseModelFiles(place, await surveyFolder(place))
}

/**
 * Chooses between several files of the same component. It prefers files that can be loaded and, except for the
 * denoiser, files that match the denoiser. In a clone of an official repository it prefers the files in the folder
 * itself. The diffusers folders hold the same weights, split differently.
 *
 * @throws {FluxError} as {@link locateModelFiles}; the message lists strays only if a component is missing
 */
export async function chooseModelFiles(place: string, { files, strays }: Survey): Promise<ModelFiles> {
  const holding = (kind: NetworkKind) => files.filter((file) => networksIn(file).includes(kind))
  const opened = (kind: NetworkKind, some: readonly ModelFile[]) => some.flatMap((file) => networkIn(kind, file) ?? [])
  const family = familyOf(
    [...new Set(families().map((family) => family.components[denoiserOf(family)]!.kind))].flatMap((kind) =>
      opened(kind, holding(kind)),
    ),
  )
  const keep = (some: ModelFile[], fits: (file: ModelFile) => boolean): ModelFile[] => {
    const fitting = some.length < 2 ? some : some.filter(fits)
    return fitting.length > 0 ? fitting : some
  }
  const isOfficial = ({ path }: ModelFile) => !isOfDiffusers(place, path)

  const denoiser = denoiserOf(family)
  const { kind } = family.components[denoiser]!
  const denoisers = keep(
    keep(holding(kind), (file) => networkIn(kind, file) !== undefined),
    isOfficial,
  )
  const [network] = denoisers.length === 1 ? opened(kind, denoisers) : []
  const alone = network && family.incompatibilities({ [denoiser]: network }).length
  const located: Record<string, string> = {}
  for (const [name, { kind, stage }] of Object.entries(family.components)) {
    const fits = (file: ModelFile) => {
      const candidate = networkIn(kind, file)
      return candidate && family.incompatibilities({ [denoiser]: network, [name]: candidate }).length === alone
    }
    const some =
      name === denoiser
        ? denoisers
        : keep(
            keep(holding(kind), (file) => !network || !!fits(file)),
            isOfficial,
          )
    const [first, second] = some
    // few images need a vision tower; a request that does asks for its file
    if (second && stage === 'image') continue
    if (second) {
      const both = `${first!.path} and ${second.path} are both a ${name}`
      throw new FluxError('FLUX_BAD_OPTION', `${both}; give ${filesInWords(family)} to say which`)
    }
    if (first) located[name] = first.path
  }
  const missing = requiredComponents(family).filter((name) => !located[name])
  if (missing.length > 0) {
    const remedy = `put the files into it, or give ${filesInWords(family)}`
    const unread = strays.length > 0 ? `. Left out there:${strays.map((stray) => `\n- ${stray}`).join('')}` : ''
    throw new FluxError('FLUX_NOT_FOUND', `${place} holds no ${missing.join(', no ')}; ${remedy}${unread}`)
  }
  return filesAt({ components: located, tokenizers: {} })
}

function isOfDiffusers(place: string, path: string): boolean {
  return hubFolders().some((name) => resolve(place, name) === dirname(resolve(path)))
}

/**
 * Opens the model files in the usual locations of a folder, or one file. Unreadable files in a folder are often not
 * part of the model: companion files that macOS writes (`._x.safetensors`), an interrupted download, a dangling link.
 *
 * @throws {FluxError} FLUX_NOT_FOUND if the folder does not exist; the file's own error if `place` is a file
 */
export async function surveyFolder(place: string): Promise<Survey> {
  if (isModelName(place) && (await isFile(place))) return { files: [await openModelFile(place)], strays: [] }
  const strays: string[] = []
  const files: ModelFile[] = []
  for (const name of new Set([...FOLDERS.slice(0, 1), ...hubFolders(), ...FOLDERS])) {
    const folder = name === '' ? place : join(place, name)
    const entries = await readdir(folder).catch((cause: unknown) => {
      if (name === '') {
        const wanted = `give 'tiny', 'flux.1-schnell' or another preset, hf:owner/name, a folder, or ${filesInWords()}`
        throw new FluxError('FLUX_NOT_FOUND', `'${folder}' is no preset and no folder that can be read; ${wanted}`, {
          cause,
        })
      }
      const { code = '' } = cause as NodeJS.ErrnoException
      if (!['ENOENT', 'ENOTDIR'].includes(code)) strays.push(`${folder}: the folder cannot be read (${code})`)
      return []
    })
    for (const entry of entries.filter(isModelName).sort()) {
      const path = join(folder, entry)
      // opening a pipe would block until it has a writer
      if (entry.startsWith('.') || !(await isFile(path)))
        strays.push(`${path}: ${entry.startsWith('.') ? 'hidden' : 'this is no file, or a link to none'}`)
      else {
        const file = await openModelFile(path).catch((error: unknown) => {
          if (!(error instanceof FluxError)) throw error
          // for a split file, the missing file may be another part
          strays.push(error.message.startsWith(path) ? error.message : `${path}: ${error.message}`)
        })
        if (file) files.push(file)
      }
    }
  }
  return { files, strays }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  )
}

/** undefined if the file cannot be loaded; opening it later reports the reason */
function networkIn(kind: NetworkKind, file: ModelFile): NetworkFile<NetworkConfigs[NetworkKind]> | undefined {
  try {
    return networkOf(kind, file)
  } catch (error) {
    if (error instanceof FluxError) return undefined
    throw error
  }
}

/**
 * Returns the first usual location of a tokenizer that exists: next to the model's file, or in a folder with the usual
 * name next to it.
 *
 * @param name the component's name, for messages
 */
export async function locateTokenizer(
  model: string,
  name: string,
  { folder, files }: Pick<TokenizerSource, 'folder' | 'files'>,
): Promise<string> {
  const beside = dirname(resolve(model))
  const places = [beside, join(beside, folder), join(dirname(beside), folder)]
  for (const place of places) {
    for (const names of files) {
      const found = await Promise.all(names.map((name) => isFile(join(place, name))))
      if (found.every(Boolean)) return place
    }
  }
  const wanted = files.map((names) => names.join(' and ')).join(', or ')
  throw new FluxError(
    'FLUX_NOT_FOUND',
    `no tokenizer for ${model}: ${wanted} was looked for in ${places.join(', ')}. ` +
      `The model's repository on Hugging Face has it in its folder ${folder}; put it there, or give its path as tokenizers.${name}`,
  )
}
