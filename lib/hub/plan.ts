import { defined } from '../options/defined.js'
import { FluxError } from '../errors.js'
import type { ModelFiles } from '../model/locate.js'
import type { Part } from '../model/components.js'
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

/** Where a listing comes from: the hub, or the cache without any request, there also from older revisions than the one that is noted. */
export type Where = 'hub' | 'cache' | 'any revision'

/** Where every part of a model is: on this machine, or on the hub. */
export interface Plan {
  parts: Partial<Record<Part, string | HubFiles>>
  tokenizers: { t5?: string | HubFiles; clip?: string | HubFiles }
  previewDecoder?: string | HubFiles
  /** why parts or tokenizers are left out */
  problems: FluxError[]
}

/** A repository as diffusers lays it out: which folder holds what. */
const DIFFUSERS = { transformer: 'transformer', t5: 'text_encoder_2', clip: 'text_encoder', vae: 'vae' } as const

/** Whether a model, or a part of it, is on the hub: `flux.1-dev`, `flux.1-dev:Q8_0`, `hf:owner/name:Q4_K_S`. */
export function isOnHub(source: string | ModelFiles): boolean {
  if (typeof source === 'string') return isReference(source) || presetReference(source) !== undefined
  const { tokenizers = {}, ...parts } = source
  return [...Object.values(parts), ...Object.values(tokenizers)].some(
    (path) => typeof path === 'string' && isReference(path),
  )
}

/**
 * Finds the files of a model. One that is named as a whole is its transformer with the encoders and the autoencoder that go with all FLUX.1
 * models, or a repository as diffusers lays it out.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, FLUX_BAD_OPTION where a model that is named as a whole is not there; FLUX_DOWNLOAD
 */
export async function planModel(source: string | ModelFiles, where: Where, requests: Requests): Promise<Plan> {
  const find = finder(where, requests)
  if (typeof source === 'string') {
    const text = presetReference(source) ?? source
    const { which } = parseReference(text)
    const isDiffusers = ({ files }: Repository) =>
      which === undefined && files.some(({ path }) => path.startsWith(`${DIFFUSERS.transformer}/`))
    const found = await find(text, (repository) =>
      isDiffusers(repository) ? diffusersPlan(repository, where) : modelIn(repository),
    )
    if ('parts' in found) return found
    source = { transformer: text, t5: COMPANIONS.t5, clip: COMPANIONS.clip, vae: COMPANIONS.vae }
  }
  const problems: FluxError[] = []
  const choose = async (path: string | undefined, files: (repository: Repository) => HubFiles) => {
    if (path === undefined || !isReference(path)) return path
    return find(path, files).catch((error: unknown) => noted(error, problems))
  }
  const model = (path: string | undefined) => choose(path, modelIn)
  const parts = {
    transformer: await model(source.transformer),
    t5: await model(source.t5),
    clip: await model(source.clip),
    vae: await model(source.vae),
  }
  const previewDecoder = await model(source.previewDecoder)
  const { tokenizers = {} } = source
  // a T5 encoder in GGUF carries its tokenizer; with files of this machine, theirs are looked for
  const t5Companion =
    typeof parts.t5 === 'object' && !/\.gguf$/i.test(parts.t5.files[0]!.path) ? COMPANIONS.t5Tokenizer : undefined
  const clipCompanion = typeof parts.clip === 'object' ? COMPANIONS.clipTokenizer : undefined
  const t5 = await choose(tokenizers.t5 ?? t5Companion, t5TokenizerIn)
  const clip = await choose(tokenizers.clip ?? clipCompanion, clipTokenizerIn)
  return { parts: defined(parts), tokenizers: defined({ t5, clip }), ...defined({ previewDecoder }), problems }
}

function noted(error: unknown, problems: FluxError[]): undefined {
  if (!(error instanceof FluxError) || error.code === 'FLUX_DOWNLOAD') throw error
  problems.push(error)
}

export function notOnHub(text: string): FluxError {
  return new FluxError(
    'FLUX_BAD_OPTION',
    `'${text}' names nothing on the hub: give ${Object.keys(PRESETS).join(', ')}, or hf:owner/name:file`,
  )
}

/** One file on the hub, with its other parts where it is split. */
export async function planFile(text: string, where: Where, requests: Requests): Promise<HubFiles> {
  const reference = presetReference(text) ?? text
  if (!isReference(reference)) throw notOnHub(text)
  return finder(where, requests)(reference, modelIn)
}

function modelIn(repository: Repository): HubFiles {
  return inOneSnapshot({ repository, files: selectModel(repository) })
}

function t5TokenizerIn(repository: Repository): HubFiles {
  return inOneSnapshot({ repository, files: selectTokenizer(repository, 'tokenizer_2', T5_TOKENIZER_FILES) })
}

function clipTokenizerIn(repository: Repository): HubFiles {
  return inOneSnapshot({ repository, files: selectTokenizer(repository, 'tokenizer', CLIP_TOKENIZER_FILES) })
}

/** Files of a listing of several snapshots are taken from one that has them all; where none has, they will be linked into one. */
function inOneSnapshot({ repository, files }: HubFiles): HubFiles {
  const commits = files[0]?.commits
  if (!commits) return { repository, files }
  const commit = commits.find((commit) => files.every((file) => file.commits?.includes(commit))) ?? commits[0]!
  return { repository: { ...repository, commit }, files }
}

/** What the hub lacks is noted; the cache may have it in another listing. */
function diffusersPlan(repository: Repository, where: Where): Plan {
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
      // smaller copies beside the model are called variants
      const usual = files.filter(({ path }) => !/\.(fp16|bf16|fp8)[.-]/i.test(path))
      const index = usual.find(({ path }) => path.endsWith('.safetensors.index.json'))
      const reference = {
        ...repository.reference,
        text: `${repository.reference.text} (${folder}/)`,
        ...(index ? { which: index.path } : {}),
      }
      return inOneSnapshot({ repository, files: selectModel({ ...repository, reference, files: usual }) })
    })
  const { transformer, t5, clip, vae } = DIFFUSERS
  return {
    parts: defined({ transformer: inFolder(transformer), t5: inFolder(t5), clip: inFolder(clip), vae: inFolder(vae) }),
    tokenizers: defined({
      t5: choose(() => t5TokenizerIn(repository)),
      clip: choose(() => clipTokenizerIn(repository)),
    }),
    problems,
  }
}

/**
 * Chooses files in the repository that a reference names; in the cache, in the first listing that has them. A repository is listed once,
 * however many files are taken from it.
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
