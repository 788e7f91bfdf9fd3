import { readdir, stat } from 'node:fs/promises'
import { dirname, extname, join, resolve } from 'node:path'
import { FluxError } from '../errors.js'
import type { NetworkKind } from '../native.js'
import { badOption, requireOptions } from '../option-checks.js'
import { openModelFile } from './model-file.js'
import { identify } from './network-file.js'
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
  /**
   * Files or folders of the tokenizers. @default T5: inside its GGUF file, else `spiece.model` or `tokenizer.json` beside it or in the
   * folder `tokenizer_2`; CLIP: `vocab.json` and `merges.txt`, or `tokenizer.json`, beside it or in the folder `tokenizer`
   */
  tokenizers?: { t5?: string; clip?: string }
}

const PARTS = ['transformer', 't5', 'clip', 'vae'] as const
const PART_OF: Record<NetworkKind, (typeof PARTS)[number]> = { flux: 'transformer', t5: 't5', clip: 'clip', autoencoder: 'vae' }
const MODEL_SUFFIXES = ['.gguf', '.safetensors']

/** @throws {FluxError} FLUX_BAD_OPTION naming the field that is missing or of the wrong type */
export function checkModelFiles(files: ModelFiles): void {
  for (const part of PARTS) requirePath(part, files[part], `the path of its file. A model needs ${PARTS.join(', ')}`)
  const { tokenizers = {} } = files
  requireOptions('tokenizers', tokenizers, ['t5', 'clip'])
  for (const [name, path] of Object.entries(tokenizers)) {
    if (path !== undefined) requirePath(`tokenizers.${name}`, path, 'the path of its file or folder, or leave it out')
  }
}

function requirePath(name: string, path: unknown, wanted: string): void {
  if (typeof path !== 'string' || path === '') throw badOption(name, path, wanted)
}

/**
 * The parts of a model in one flat folder, told by their tensors and not by their names.
 *
 * @throws {FluxError} FLUX_NOT_FOUND when the folder or a part of the model is not there; FLUX_BAD_OPTION when a part is there twice
 */
export async function locateModelFiles(folder: string): Promise<ModelFiles> {
  const entries = await readdir(folder).catch((cause: unknown) => {
    const wanted = "give 'tiny', a folder, or { transformer, t5, clip, vae }"
    throw new FluxError('FLUX_NOT_FOUND', `'${folder}' is no preset and no folder that can be read; ${wanted}`, { cause })
  })
  const files: Partial<Record<(typeof PARTS)[number], string>> = {}
  for (const name of entries.filter((name) => MODEL_SUFFIXES.includes(extname(name).toLowerCase())).sort()) {
    const path = join(folder, name)
    if (isLaterPart(path)) continue
    const kind = identify(await openModelFile(path))?.kind
    const part = kind && PART_OF[kind]
    if (!part) continue
    if (files[part]) {
      const both = `${files[part]} and ${path} are both a ${part}`
      throw new FluxError('FLUX_BAD_OPTION', `${both}; give { transformer, t5, clip, vae } to say which`)
    }
    files[part] = path
  }
  const missing = PARTS.filter((part) => !files[part])
  if (missing.length > 0) {
    const remedy = 'put the files into it, or give { transformer, t5, clip, vae }'
    throw new FluxError('FLUX_NOT_FOUND', `${folder} holds no ${missing.join(', no ')}; ${remedy}`)
  }
  return files as Record<(typeof PARTS)[number], string>
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
