import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FluxError } from '../errors.js'

/** The largest tokenizer used with these encoders (UMT5's tokenizer.json) has 17 MB. */
const MAX_FILE_BYTES = 32 * 2 ** 20

/**
 * Finds the files of a tokenizer: `source` itself if it is a file, otherwise the first alternative whose files are all
 * in the folder.
 *
 * @param alternatives sets of file names that belong together, the preferred ones first
 * @throws FluxError FLUX_NOT_FOUND, FLUX_BAD_OPTION
 */
export async function findTokenizerFiles(
  source: string,
  alternatives: readonly (readonly string[])[],
): Promise<string[]> {
  if (typeof source !== 'string' || source === '' || source.includes('\0')) {
    const given = typeof source === 'string' ? JSON.stringify(source) : typeof source
    throw new FluxError('FLUX_BAD_OPTION', `a tokenizer's source must be the path of a file or folder, not ${given}`)
  }
  const found = await stat(source).catch(() => undefined)
  if (!found)
    throw new FluxError('FLUX_NOT_FOUND', `no tokenizer at ${source}; give the path of a tokenizer's file or folder`)
  if (!found.isDirectory()) return [source]
  for (const names of alternatives) {
    const paths = names.map((name) => join(source, name))
    const all = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)))
    if (all.every((one) => one?.isFile())) return paths
  }
  const wanted = alternatives.map((names) => names.join(' and ')).join(', or ')
  throw new FluxError('FLUX_NOT_FOUND', `the folder ${source} holds no tokenizer; it needs ${wanted}`)
}

/** @throws FluxError FLUX_NOT_FOUND, FLUX_BAD_FILE */
export async function readTokenizerFile(path: string): Promise<Buffer> {
  try {
    const found = await stat(path)
    if (!found.isFile() || found.size > MAX_FILE_BYTES) {
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${path} is no file of at most ${MAX_FILE_BYTES} bytes, as tokenizers are; is it another file?`,
      )
    }
    return await readFile(path)
  } catch (error) {
    if (error instanceof FluxError) throw error
    throw new FluxError('FLUX_NOT_FOUND', `cannot read the tokenizer ${path}: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** Reads a JSON file whose top level is an object. @throws FluxError FLUX_NOT_FOUND, FLUX_BAD_FILE */
export async function readTokenizerJson(path: string): Promise<Record<string, unknown>> {
  const text = (await readTokenizerFile(path)).toString('utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new FluxError('FLUX_BAD_FILE', `${path} is not JSON (${(error as Error).message}); fetch it again`, {
      cause: error,
    })
  }
  if (!isRecord(value)) throw new FluxError('FLUX_BAD_FILE', `${path} must hold a JSON object; fetch it again`)
  return value
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
