import { readdir, stat } from 'node:fs/promises'
import { dirname, extname, join, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import { badOption, requireOptions } from '../options/checks.js'
import { openModelFile } from '../formats/open.js'
import type { ModelFile } from '../formats/model-file.js'
import { networkOf, networksIn } from '../networks/network-file.js'
import type { NetworkConfigs, NetworkKind } from '../networks/registry.js'
import { PART_OF_KIND, PARTS, type Part } from './components.js'
import { isLaterPart } from '../formats/shards.js'

/** Where a model's parts lie. */
export interface ModelFiles {
  /** the transformer: `.gguf` or `.safetensors` */
  transformer: string
  /** the T5-XXL text encoder */
  t5: string
  /** the CLIP-L text encoder */
  clip: string
  /** the autoencoder */
  vae: string
  /** TAEF1's decoder, for previews @default none */
  previewDecoder?: string
  /**
   * Files or folders of the tokenizers. @default T5: inside its GGUF file, else `spiece.model` or `tokenizer.json` beside it or in the
   * folder `tokenizer_2`; CLIP: `vocab.json` and `merges.txt`, or `tokenizer.json`, beside it or in the folder `tokenizer`
   */
  tokenizers?: { t5?: string; clip?: string }
}

/** `.sft` is what the official files were called at first. */
const MODEL_SUFFIXES = ['.gguf', '.safetensors', '.sft']

/** Whether a file is a model by its name; what it holds, its header tells. */
export function isModelName(path: string): boolean {
  return MODEL_SUFFIXES.includes(extname(path).toLowerCase()) && !isLaterPart(path)
}

/** @throws {FluxError} FLUX_BAD_OPTION naming the field that is missing or of the wrong type */
export function checkModelFiles(files: ModelFiles): void {
  for (const part of PARTS) requirePath(part, files[part], `the path of its file. A model needs ${PARTS.join(', ')}`)
  const { tokenizers = {}, previewDecoder } = files
  if (previewDecoder !== undefined)
    requirePath('previewDecoder', previewDecoder, 'the path of its file, or leave it out')
  requireOptions('tokenizers', tokenizers, ['t5', 'clip'])
  for (const [name, path] of Object.entries(tokenizers)) {
    if (path !== undefined) requirePath(`tokenizers.${name}`, path, 'the path of its file or folder, or leave it out')
  }
}

function requirePath(name: string, path: unknown, wanted: string): void {
  if (typeof path !== 'string' || path === '') throw badOption(name, path, wanted)
}

const DIFFUSERS_FOLDERS = ['transformer', 'text_encoder', 'text_encoder_2', 'vae']
/** Where the parts of a model are in a folder: side by side, as diffusers lays them out, or as ComfyUI does. */
const FOLDERS = [
  '',
  ...DIFFUSERS_FOLDERS,
  'unet',
  'diffusion_models',
  'text_encoders',
  'clip',
  'checkpoints',
  'vae_approx',
]

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
 * Of several files that are the same part those are taken that can be loaded, of encoders and autoencoders those that fit the transformer,
 * and in a clone of an official repository the files of the folder itself, not those of the folders of diffusers: these hold the same, cut
 * in another way.
 *
 * @throws {FluxError} as {@link locateModelFiles}; strays are named only where a part is not there
 */
export async function chooseModelFiles(place: string, { files, strays }: Survey): Promise<ModelFiles> {
  const found: Record<NetworkKind, ModelFile[]> = { flux: [], t5: [], clip: [], autoencoder: [], 'tiny-decoder': [] }
  for (const file of files) for (const kind of networksIn(file)) found[kind as NetworkKind]?.push(file)
  const keep = <K extends NetworkKind>(
    kind: K,
    fits: (file: ModelFile, config: NetworkConfigs[K] | undefined) => boolean,
  ) => {
    if (found[kind].length < 2) return
    const fitting = found[kind].filter((file) => fits(file, configOf(kind, file)))
    if (fitting.length > 0) found[kind] = fitting
  }
  const keepOfficial = (kind: NetworkKind) => keep(kind, ({ path }) => !isOfDiffusers(place, path))
  keep('flux', (_, config) => config !== undefined)
  keepOfficial('flux')
  const transformer = found.flux.length === 1 ? configOf('flux', found.flux[0]!) : undefined
  if (transformer) {
    keep('t5', (_, config) => config?.dModel === transformer.contextInDim)
    keep('clip', (_, config) => config?.hiddenSize === transformer.vecInDim)
    keep('autoencoder', (_, config) => 4 * (config?.zChannels ?? 0) === transformer.outChannels)
    keep('tiny-decoder', (_, config) => 4 * (config?.zChannels ?? 0) === transformer.outChannels)
  }
  const located: Partial<Record<Part | 'previewDecoder', string>> = {}
  for (const kind of Object.keys(found) as NetworkKind[]) {
    keepOfficial(kind)
    const [first, second] = found[kind]
    const part = PART_OF_KIND[kind] ?? 'previewDecoder'
    if (second) {
      const both = `${first!.path} and ${second.path} are both a ${part}`
      throw new FluxError('FLUX_BAD_OPTION', `${both}; give { transformer, t5, clip, vae } to say which`)
    }
    if (first) located[part] = first.path
  }
  const missing = PARTS.filter((part) => !located[part])
  if (missing.length > 0) {
    const remedy = 'put the files into it, or give { transformer, t5, clip, vae }'
    const unread = strays.length > 0 ? `. Left out there:${strays.map((stray) => `\n- ${stray}`).join('')}` : ''
    throw new FluxError('FLUX_NOT_FOUND', `${place} holds no ${missing.join(', no ')}; ${remedy}${unread}`)
  }
  return located as Record<Part, string>
}

function isOfDiffusers(place: string, path: string): boolean {
  return DIFFUSERS_FOLDERS.some((name) => resolve(place, name) === dirname(resolve(path)))
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
  for (const name of FOLDERS) {
    const folder = name === '' ? place : join(place, name)
    const entries = await readdir(folder).catch((cause: unknown) => {
      if (name === '') {
        const wanted =
          "give 'tiny', 'flux.1-schnell' or another preset, hf:owner/name, a folder, or { transformer, t5, clip, vae }"
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
function configOf<K extends NetworkKind>(kind: K, file: ModelFile): NetworkConfigs[K] | undefined {
  try {
    return networkOf(kind, file).config
  } catch (error) {
    if (error instanceof FluxError) return undefined
    throw error
  }
}

/** The first of the usual places of a tokenizer that is there: beside the model's file, or in a folder with the usual name beside it. */
export async function locateTokenizer(
  model: string,
  folder: 'tokenizer' | 'tokenizer_2',
  alternatives: readonly (readonly string[])[],
): Promise<string> {
  const beside = dirname(resolve(model))
  const places = [beside, join(beside, folder), join(dirname(beside), folder)]
  for (const place of places) {
    for (const names of alternatives) {
      const found = await Promise.all(names.map((name) => isFile(join(place, name))))
      if (found.every(Boolean)) return place
    }
  }
  const wanted = alternatives.map((names) => names.join(' and ')).join(', or ')
  const option = folder === 'tokenizer' ? 'tokenizers.clip' : 'tokenizers.t5'
  throw new FluxError(
    'FLUX_NOT_FOUND',
    `no tokenizer for ${model}: ${wanted} was looked for in ${places.join(', ')}. ` +
      `Every FLUX.1 repository on Hugging Face has it in its folder ${folder}; put it there, or give its path as ${option}`,
  )
}
