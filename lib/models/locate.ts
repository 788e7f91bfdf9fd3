import { readdir, stat } from 'node:fs/promises'
import { dirname, extname, join, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import type { NetworkKind } from '../native.js'
import { badOption, requireOptions } from '../option-checks.js'
import { openModelFile, type ModelFile } from './model-file.js'
import { networkOf, networksIn, type NetworkConfigs } from './network-file.js'
import { PART_OF_KIND, PARTS, type Part } from './parts.js'
import { isLaterPart } from './split.js'

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

const MODEL_SUFFIXES = ['.gguf', '.safetensors']

/** @throws {FluxError} FLUX_BAD_OPTION naming the field that is missing or of the wrong type */
export function checkModelFiles(files: ModelFiles): void {
  for (const part of PARTS) requirePath(part, files[part], `the path of its file. A model needs ${PARTS.join(', ')}`)
  const { tokenizers = {}, previewDecoder } = files
  if (previewDecoder !== undefined) requirePath('previewDecoder', previewDecoder, 'the path of its file, or leave it out')
  requireOptions('tokenizers', tokenizers, ['t5', 'clip'])
  for (const [name, path] of Object.entries(tokenizers)) {
    if (path !== undefined) requirePath(`tokenizers.${name}`, path, 'the path of its file or folder, or leave it out')
  }
}

function requirePath(name: string, path: unknown, wanted: string): void {
  if (typeof path !== 'string' || path === '') throw badOption(name, path, wanted)
}

/** Where the parts of a model lie in a folder: side by side, as diffusers lays them out, or as ComfyUI does. */
const FOLDERS = ['', 'transformer', 'text_encoder', 'text_encoder_2', 'vae', 'unet', 'diffusion_models', 'text_encoders', 'clip', 'checkpoints', 'vae_approx']

/**
 * The parts of a model in a folder or in one file, told by their tensors and not by their names. Of several encoders and autoencoders those
 * are taken that fit the transformer.
 *
 * @throws {FluxError} FLUX_NOT_FOUND when the folder or a part of the model is not there; FLUX_BAD_OPTION when a part is there twice
 */
export async function locateModelFiles(place: string): Promise<ModelFiles> {
  const found = await candidates(await modelFilesIn(place))
  const config = found.flux.length === 1 ? configOf('flux', found.flux[0]!) : undefined
  if (config) {
    const keep = <K extends NetworkKind>(kind: K, fits: (config: NetworkConfigs[K]) => boolean) => {
      if (found[kind].length < 2) return
      const fitting = found[kind].filter((file) => {
        const own = configOf(kind, file)
        return own && fits(own)
      })
      if (fitting.length > 0) found[kind] = fitting
    }
    keep('t5', ({ dModel }) => dModel === config.contextInDim)
    keep('clip', ({ hiddenSize }) => hiddenSize === config.vecInDim)
    keep('autoencoder', ({ zChannels }) => 4 * zChannels === config.outChannels)
    keep('tiny-decoder', ({ zChannels }) => 4 * zChannels === config.outChannels)
  }
  const files: Partial<Record<Part | 'previewDecoder', string>> = {}
  for (const [kind, [first, second]] of Object.entries(found) as [NetworkKind, ModelFile[]][]) {
    const part = PART_OF_KIND[kind] ?? 'previewDecoder'
    if (second) {
      const both = `${first!.path} and ${second.path} are both a ${part}`
      throw new FluxError('FLUX_BAD_OPTION', `${both}; give { transformer, t5, clip, vae } to say which`)
    }
    if (first) files[part] = first.path
  }
  const missing = PARTS.filter((part) => !files[part])
  if (missing.length > 0) {
    const remedy = 'put the files into it, or give { transformer, t5, clip, vae }'
    throw new FluxError('FLUX_NOT_FOUND', `${place} holds no ${missing.join(', no ')}; ${remedy}`)
  }
  return files as Record<Part, string>
}

/** The model files at the usual places of a folder. @throws {FluxError} FLUX_NOT_FOUND when there is no such folder */
export async function modelFilesIn(place: string): Promise<string[]> {
  const isModel = (name: string) => MODEL_SUFFIXES.includes(extname(name).toLowerCase()) && !isLaterPart(name)
  if (isModel(place) && (await stat(place).then((entry) => entry.isFile(), () => false))) return [place]
  const lists = await Promise.all(
    FOLDERS.map(async (name) => {
      const folder = name === '' ? place : join(place, name)
      const entries = await readdir(folder).catch((cause: unknown) => {
        if (name !== '') return []
        const wanted = "give 'tiny', 'flux.1-schnell' or another preset, hf:owner/name, a folder, or { transformer, t5, clip, vae }"
        throw new FluxError('FLUX_NOT_FOUND', `'${folder}' is no preset and no folder that can be read; ${wanted}`, { cause })
      })
      return entries.filter(isModel).sort().map((entry) => join(folder, entry))
    }),
  )
  return lists.flat()
}

async function candidates(paths: string[]): Promise<Record<NetworkKind, ModelFile[]>> {
  const found: Record<NetworkKind, ModelFile[]> = { flux: [], t5: [], clip: [], autoencoder: [], 'tiny-decoder': [] }
  for (const path of paths) {
    const file = await openModelFile(path)
    for (const kind of networksIn(file)) found[kind].push(file)
  }
  return found
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
      const isFile = (name: string) => stat(join(place, name)).then((entry) => entry.isFile(), () => false)
      const found = await Promise.all(names.map(isFile))
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
