import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FluxError } from '../errors.js'
import type { Quantize } from './encode.js'
import { synthesize, type SynthOptions } from './synth.js'

export interface TinyModelPaths {
  transformer: string
  /** with its tokenizer inside */
  t5: string
  clip: string
  vae: string
  /** `clip`: the folder of `vocab.json` and `merges.txt` */
  tokenizers: { clip: string }
}

/** To be raised whenever other bytes come out, so that folders of an older version are made anew. */
const VERSION = 1
const MANIFEST = 'model.json'

type NetworkOptions = Pick<SynthOptions, 'architecture' | 'type' | 'seed'> & { file: string }

const NETWORKS: Record<'transformer' | 't5' | 'clip' | 'vae', NetworkOptions> = {
  transformer: { architecture: 'flux-tiny', type: 'Q8_0', seed: 1, file: 'transformer.gguf' },
  t5: { architecture: 't5-tiny', type: 'Q8_0', seed: 2, file: 't5.gguf' },
  clip: { architecture: 'clip-tiny', type: 'F16', seed: 3, file: 'clip.safetensors' },
  vae: { architecture: 'autoencoder-tiny', type: 'F16', seed: 4, file: 'vae.safetensors' },
}

interface Manifest {
  version: number
  /** sha256 by file name */
  files: Record<string, string>
}

/**
 * A complete model of 23 MB, made of random networks: its pictures are patches of colour that follow seed and prompt but show nothing. It
 * is made on the first call (about a second) and found again afterwards; a folder that is incomplete, damaged or of another version is made
 * anew. Two processes at once are safe: each makes its own folder, the first renames it into place, the other takes that.
 *
 * @param directory where the model is or will be; its parents are made
 * @param quantize ggml's quantiser, called only when the model has to be made
 * @throws {FluxError} FLUX_BAD_OPTION when the folder cannot be written
 */
export async function synthesizeTinyModel(directory: string, quantize: Quantize): Promise<TinyModelPaths> {
  if (!(await isWhole(directory))) {
    const temporary = `${directory}.${randomUUID()}`
    try {
      await mkdir(temporary, { recursive: true })
      await makeFiles(temporary, quantize)
      await moveInto(directory, temporary)
    } catch (cause) {
      if (cause instanceof FluxError) throw cause
      const message = `${dirname(directory)}: the tiny model cannot be made here (${String(cause)}). Set GGFLUX_CACHE to another folder`
      throw new FluxError('FLUX_BAD_OPTION', message, { cause })
    } finally {
      await rm(temporary, { recursive: true, force: true }).catch(() => {})
    }
  }
  const path = (name: keyof typeof NETWORKS) => join(directory, NETWORKS[name].file)
  return { transformer: path('transformer'), t5: path('t5'), clip: path('clip'), vae: path('vae'), tokenizers: { clip: directory } }
}

async function makeFiles(directory: string, quantize: Quantize): Promise<void> {
  for (const { file, ...options } of Object.values(NETWORKS)) await synthesize({ ...options, path: join(directory, file), quantize })
  const files: Manifest['files'] = {}
  for (const name of fileNames()) files[name] = await sha256(join(directory, name))
  await writeFile(join(directory, MANIFEST), JSON.stringify({ version: VERSION, files } satisfies Manifest))
}

function fileNames(): string[] {
  return [...Object.values(NETWORKS).map(({ file }) => file), 'vocab.json', 'merges.txt']
}

/** Whether every file is there as it was written. */
async function isWhole(directory: string): Promise<boolean> {
  try {
    const { version, files }: Partial<Manifest> = JSON.parse(await readFile(join(directory, MANIFEST), 'utf8'))
    if (version !== VERSION) return false
    for (const name of fileNames()) if ((await sha256(join(directory, name))) !== files?.[name]) return false
    return true
  } catch {
    return false
  }
}

/** Renames `temporary` to `directory`. A whole model that is there by now is left, anything else makes room. */
async function moveInto(directory: string, temporary: string): Promise<void> {
  try {
    await rename(temporary, directory)
  } catch {
    if (await isWhole(directory)) return
    const broken = `${directory}.${randomUUID()}`
    await rename(directory, broken)
    await rm(broken, { recursive: true, force: true })
    await rename(temporary, directory)
  }
}

async function sha256(path: string): Promise<string> {
  return createHash('sha256').update(await readFile(path)).digest('hex')
}
