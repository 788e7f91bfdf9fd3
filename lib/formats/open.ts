import { FluxError } from '../errors.js'
import { withSource, type Source } from './byte-source.js'
import { readGguf } from './gguf/read.js'
import type { ModelFile } from './model-file.js'
import { readSafetensors } from './safetensors/read.js'
import { joinParts, partsOf } from './shards.js'

/**
 * Other kinds of files that are often given instead of a model: a pattern for the first bytes as latin1, and what to do
 * instead.
 */
const NOT_MODELS: [begin: RegExp, what: string][] = [
  [
    /^version https:\/\/git-lfs/,
    'this is a Git LFS pointer, not the file itself. Run `git lfs pull` in its folder, or download the file again',
  ],
  [
    /^\s*(<!--|<!doctype|<html|<head|<\?xml)/i,
    'this is a web page saved as a model (a login, licence or error page). Download the file again, signed in where the site asks',
  ],
  [
    /^PK\x03\x04/,
    'this is a zip archive, as PyTorch writes it (.pt, .pth, .ckpt). Such files can run code and are not read: use a .safetensors or .gguf, or convert it with a program that you trust',
  ],
  [
    /^\x80[\x02-\x05]/,
    'this is a Python pickle (.pt, .pth, .ckpt, .bin). Such files can run code and are not read: use a .safetensors or .gguf version',
  ],
  [/^(lmgg|fmgg|tjgg|algg)/, 'this is a ggml file of the time before GGUF. Use a GGUF version of the model'],
  [/^FUGG/, 'this GGUF file is big-endian. Use a little-endian version of the file'],
  [/^\x1f\x8b/, 'this is a gzip archive. Unpack it first'],
  [
    /^\s*\{/,
    'this is a JSON text (a configuration or an index?), not a model. Give the .safetensors or .gguf file itself',
  ],
]

/**
 * Reads and checks the header of a GGUF or safetensors file. The first bytes decide the format, never the name. For a
 * model that is split into several files, any part or the index opens the whole model.
 *
 * @throws {FluxError} FLUX_NOT_FOUND; FLUX_BAD_FILE for a broken file or one that is not a model; FLUX_UNSUPPORTED for
 *   unknown tensor types or versions
 */
export async function openModelFile(input: string | Source): Promise<ModelFile> {
  const parts = typeof input === 'string' ? await partsOf(input) : undefined
  return parts ? joinParts(input as string, await Promise.all(parts.map(openOne))) : openOne(input)
}

function openOne(input: string | Source): Promise<ModelFile> {
  return withSource(input, async (source) => {
    const { path, size } = source
    const head = (await source.read(0, Math.min(size, 512))).toString('latin1')
    const refuse = (why: string): never => {
      throw new FluxError('FLUX_BAD_FILE', `${path}: ${why}`)
    }
    if (size === 0) refuse('the file is empty. Download it again')
    if (head.startsWith('GGUF')) return readGguf(source)
    if (/^[^]{7}\0\{/.test(head)) return readSafetensors(source)
    const known = NOT_MODELS.find(([begin]) => begin.test(head))
    if (known) refuse(known[1])
    const begin = Buffer.from(head.slice(0, 8), 'latin1').toString('hex')
    return refuse(
      `neither a GGUF nor a safetensors file (${size} bytes, beginning with ${begin}). Give a .gguf or .safetensors model`,
    )
  })
}
