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

/** `.sft` is what the official files were called at first. */
const MODEL_SUFFIXES = ['.gguf', '.safetensors', '.sft']

/** Whether a file is a model by its name; what it holds, its header tells. */
export function isModelName(path: string): boolean {
  return MODEL_SUFFIXES.includes(extname(path).toLowerCase()) && !isLaterPart(path)
}

/** Those of ComfyUI; the first is where files lie side by side. */
const FOLDERS = ['', 'unet', 'diffusion_models', 'text_encoders', 'clip', 'checkpoints', 'vae_approx']

/** Those of repositories as diffusers lays them out. */
function hubFolders(): string[] {
  return families().flatMap(({ components }) => Object.values(components).flatMap(({ hubFolder }) => hubFolder ?? []))
}

/** What the usual places of a folder hold. */
export interface Survey {
  files: ModelFile[]
  /** why other files there, which have the name of a model, are left out */
  strays: string[]
}

/**
 * The parts of a model in a folder or in one file, told by their tensors and not by their names.
 *
 * @throws {FluxError} FLUX_NOT_FOUND when the folder or a part of the model is not there; FLUX_BAD_OPTION when a part is there twice
 */
export async function locateModelFiles(place: string): Promise<ModelFiles> {
  return chooseModelFiles(place, await surveyFolder(place))
}

/**
 * Of several files that are the same component those are taken that can be loaded, of all but the denoiser those that fit it, and in a clone of
 * an official repository the files of the folder itself, not those of the folders of diffusers: these hold the same, cut in another way.
 *
 * @throws {FluxError} as {@link locateModelFiles}; strays are named only where a component is not there
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
  for (const [name, { kind }] of Object.entries(family.components)) {
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
 * Opens the model files at the usual places of a folder, or one file. What cannot be read there is often no part of the model: companions
 * that macOS writes (`._x.safetensors`), a download that was stopped, a link to nowhere.
 *
 * @throws {FluxError} FLUX_NOT_FOUND when there is no such folder; what is wrong with the file, where `place` is one
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
      // opening a pipe would wait for its writer
      if (entry.startsWith('.') || !(await isFile(path)))
        strays.push(`${path}: ${entry.startsWith('.') ? 'hidden' : 'this is no file, or a link to none'}`)
      else {
        const file = await openModelFile(path).catch((error: unknown) => {
          if (!(error instanceof FluxError)) throw error
          // of a split file, another part may be what is missing
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

/** undefined where the file is none that can be loaded; whoever opens it then tells why */
function networkIn(kind: NetworkKind, file: ModelFile): NetworkFile<NetworkConfigs[NetworkKind]> | undefined {
  try {
    return networkOf(kind, file)
  } catch (error) {
    if (error instanceof FluxError) return undefined
    throw error
  }
}

/**
 * The first of the usual places of a tokenizer that is there: beside the model's file, or in a folder with the usual name beside it.
 *
 * @param name of the component, for messages
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
