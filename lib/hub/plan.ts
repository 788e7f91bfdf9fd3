import { FluxError } from '../errors.js'
import type { ModelFiles } from '../models/locate.js'
import type { Part } from '../models/parts.js'
import { CLIP_TOKENIZER_FILES } from '../tokenizers/clip.js'
import { T5_TOKENIZER_FILES } from '../tokenizers/t5.js'
import { COMPANIONS, presetReference, PRESETS } from './presets.js'
import { isReference, parseReference } from './reference.js'
import { listCached, listRemote, type Repository, type RepositoryFile } from './repository.js'
import type { Requests } from './requests.js'
import { selectModel, selectTokenizer } from './select.js'

/** Files of a repository that belong together, the one to open first. */
export interface HubFiles {
  repository: Repository
  files: RepositoryFile[]
}

/** Where every part of a model lies: on this machine, or on the hub. */
export interface Plan {
  parts: Record<Part, string | HubFiles>
  tokenizers: { t5?: string | HubFiles; clip?: string | HubFiles }
  previewDecoder?: string | HubFiles
}

/** A repository as diffusers lays it out: which folder holds what. */
const DIFFUSERS = { transformer: 'transformer', t5: 'text_encoder_2', clip: 'text_encoder', vae: 'vae' } as const

/** Whether a model, or a part of it, lies on the hub: `flux.1-dev`, `flux.1-dev:Q8_0`, `hf:owner/name:Q4_K_S`. */
export function isOnHub(source: string | ModelFiles): boolean {
  if (typeof source === 'string') return isReference(source) || presetReference(source) !== undefined
  const { tokenizers = {}, ...parts } = source
  return [...Object.values(parts), ...Object.values(tokenizers)].some((path) => typeof path === 'string' && isReference(path))
}

/**
 * Finds the files of a model. One that is named as a whole is its transformer with the encoders and the autoencoder that go with all FLUX.1
 * models, or a repository as diffusers lays it out.
 *
 * @param where 'cache' makes no request
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_OPTION, FLUX_DOWNLOAD
 */
export async function planModel(source: string | ModelFiles, where: 'cache' | 'hub', requests: Requests): Promise<Plan> {
  const list = lister(where, requests)
  if (typeof source === 'string') {
    const text = presetReference(source) ?? source
    const reference = parseReference(text)
    const repository = await list(text)
    if (reference.which === undefined && repository.files.some(({ path }) => path.startsWith(`${DIFFUSERS.transformer}/`))) return diffusersPlan(repository)
    source = { transformer: text, t5: COMPANIONS.t5, clip: COMPANIONS.clip, vae: COMPANIONS.vae }
  }
  const model = async (path: string) => (isReference(path) ? { repository: await list(path), files: selectModel(await list(path)) } : path)
  const parts = { transformer: await model(source.transformer), t5: await model(source.t5), clip: await model(source.clip), vae: await model(source.vae) }
  const tokenizer = async (path: string | undefined, folder: string, names: readonly (readonly string[])[]) => {
    if (path === undefined || !isReference(path)) return path
    const repository = await list(path)
    return { repository, files: selectTokenizer(repository, folder, names) }
  }
  const { tokenizers = {} } = source
  // a T5 encoder in GGUF carries its tokenizer; beside files of this machine, theirs are looked for
  const t5Companion = typeof parts.t5 !== 'string' && !/\.gguf$/i.test(parts.t5.files[0]!.path) ? COMPANIONS.t5Tokenizer : undefined
  const t5 = await tokenizer(tokenizers.t5 ?? t5Companion, 'tokenizer_2', T5_TOKENIZER_FILES)
  const clipCompanion = typeof parts.clip !== 'string' ? COMPANIONS.clipTokenizer : undefined
  const clip = await tokenizer(tokenizers.clip ?? clipCompanion, 'tokenizer', CLIP_TOKENIZER_FILES)
  const previewDecoder = source.previewDecoder === undefined ? {} : { previewDecoder: await model(source.previewDecoder) }
  return { parts, tokenizers: { ...(t5 === undefined ? {} : { t5 }), ...(clip === undefined ? {} : { clip }) }, ...previewDecoder }
}

export function notOnHub(text: string): FluxError {
  return new FluxError('FLUX_BAD_OPTION', `'${text}' names nothing on the hub: give ${Object.keys(PRESETS).join(', ')}, or hf:owner/name:file`)
}

/** One file on the hub, with its other parts where it is split. */
export async function planFile(text: string, where: 'cache' | 'hub', requests: Requests): Promise<HubFiles> {
  const reference = presetReference(text) ?? text
  if (!isReference(reference)) throw notOnHub(text)
  const repository = await lister(where, requests)(reference)
  return { repository, files: selectModel(repository) }
}

function diffusersPlan(repository: Repository): Plan {
  const inFolder = (folder: string): HubFiles => {
    const files = repository.files.filter(({ path }) => path.startsWith(`${folder}/`))
    // smaller copies beside the model are called variants
    const usual = files.filter(({ path }) => !/\.(fp16|bf16|fp8)[.-]/i.test(path))
    const index = usual.find(({ path }) => path.endsWith('.safetensors.index.json'))
    const reference = { ...repository.reference, text: `${repository.reference.text} (${folder}/)`, ...(index ? { which: index.path } : {}) }
    return { repository, files: selectModel({ ...repository, reference, files: usual }) }
  }
  const { transformer, t5, clip, vae } = DIFFUSERS
  return {
    parts: { transformer: inFolder(transformer), t5: inFolder(t5), clip: inFolder(clip), vae: inFolder(vae) },
    tokenizers: {
      t5: { repository, files: selectTokenizer(repository, 'tokenizer_2', T5_TOKENIZER_FILES) },
      clip: { repository, files: selectTokenizer(repository, 'tokenizer', CLIP_TOKENIZER_FILES) },
    },
  }
}

/** Lists a repository once, however many files are taken from it. */
function lister(where: 'cache' | 'hub', requests: Requests): (text: string) => Promise<Repository> {
  const known = new Map<string, Promise<Repository>>()
  return async (text) => {
    const reference = parseReference(text)
    const key = `${reference.repository}@${reference.revision}`
    const listing = known.get(key) ?? (where === 'hub' ? listRemote(reference, requests) : fromCache())
    known.set(key, listing)
    return { ...(await listing), reference }

    async function fromCache(): Promise<Repository> {
      const { cacheDir } = requests.settings
      const found = await listCached(reference, cacheDir)
      if (found) return found
      throw new FluxError('FLUX_NOT_FOUND', `${text} is not in the cache ${cacheDir}. Run \`ggflux pull ${text}\` while the hub can be reached`)
    }
  }
}
