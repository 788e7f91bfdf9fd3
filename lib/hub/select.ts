import { posix } from 'node:path'
import { FluxError } from '../errors.js'
import { isModelName } from '../model/locate.js'
import { USUAL_TYPES } from './presets.js'
import type { Repository, RepositoryFile } from './repository.js'

const INDEX = /\.safetensors\.index\.json$/i
const LISTED = 12

/**
 * Selects the files of a repository that a reference means: first the one to open, then the other parts if the model is
 * split.
 *
 * @throws {FluxError} FLUX_NOT_FOUND, or FLUX_BAD_OPTION if several match, with a list of the available files
 */
export function selectModel({ reference: { text, which }, files }: Repository): RepositoryFile[] {
  const exact = files.filter(({ path }) => path === which)
  if (exact[0]) return withParts(text, exact[0], files)
  const models = files.filter(({ path }) => isModelName(path))
  const named = (name: string) =>
    models.filter(({ path }) => posix.basename(path) === name || holdsWord(posix.basename(path), name))
  let found = which === undefined ? models : named(which)
  if (which === undefined && found.length > 1) found = USUAL_TYPES.map(named).find((some) => some.length > 0) ?? found
  if (found.length === 1) return withParts(text, found[0]!, files)
  const listed = (found.length > 0 ? found : models).map(({ path }) => path)
  const some =
    listed.slice(0, LISTED).join(', ') + (listed.length > LISTED ? ` and ${listed.length - LISTED} more` : '')
  if (found.length > 1)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `${text} means several files: ${some}. Put the name of one of them behind a :`,
    )
  if (models.length === 0)
    throw new FluxError('FLUX_NOT_FOUND', `${text}: the repository has no .gguf or .safetensors file`)
  throw new FluxError(
    'FLUX_NOT_FOUND',
    `${text}: no file of the repository has '${which}' in its name. There are ${some}`,
  )
}

/** Returns the first of several sets of files that a repository has completely, at its root or in `folder`. */
export function selectTokenizer(
  { reference: { text }, files }: Repository,
  folder: string,
  alternatives: readonly (readonly string[])[],
): RepositoryFile[] {
  for (const place of ['', `${folder}/`]) {
    for (const names of alternatives) {
      const found = names.flatMap((name) => files.filter(({ path }) => path === place + name))
      if (found.length === names.length) return found
    }
  }
  const wanted = alternatives.map((names) => names.join(' and ')).join(', or ')
  throw new FluxError('FLUX_NOT_FOUND', `${text}: the repository has no tokenizer (${wanted})`)
}

/**
 * Whether a name contains `word` between characters other than letters and digits: Q4_K is not in
 * `flux1-dev-Q4_K_S.gguf`.
 */
function holdsWord(name: string, word: string): boolean {
  const [text, part] = [name.toLowerCase(), word.toLowerCase()]
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) {
    if (!/[\w]/.test(text[at - 1] ?? '') && !/[\w]/.test(text[at + part.length] ?? '')) return true
  }
  return false
}

function withParts(text: string, first: RepositoryFile, files: RepositoryFile[]): RepositoryFile[] {
  const stem = INDEX.test(first.path)
    ? first.path.replace(INDEX, '')
    : /^(.*)-\d{5}-of-\d{5}\.\w+$/.exec(first.path)?.[1]
  if (stem === undefined) return [first]
  const isPart = ({ path }: RepositoryFile) =>
    path !== first.path &&
    path.startsWith(`${stem}-`) &&
    /^-\d{5}-of-\d{5}\.(gguf|safetensors)$/i.test(path.slice(stem.length))
  const parts = [first, ...files.filter(isPart)]
  const all = Number(/-of-(\d{5})\.\w+$/.exec(parts.at(-1)!.path)?.[1] ?? 1)
  const there = parts.filter(({ path }) => !INDEX.test(path)).length
  if (there < all || there === 0)
    throw new FluxError('FLUX_NOT_FOUND', `${text}: ${there} of ${all} parts of ${first.path} are there`)
  return parts
}
