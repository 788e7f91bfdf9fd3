import { FluxError } from '../errors.js'
import type { LatentRgb } from '../preview.js'
import type { FluxConfig } from './layouts/flux.js'
import type { MetadataValue, ModelFile } from './model-file.js'

/** What a picture is made with where the caller says nothing. */
export interface ModelDefaults {
  /** pixels */
  width: number
  height: number
  steps: number
  /** undefined for a model without guidance */
  guidance: number | undefined
  /** tokens of the prompt that T5 sees */
  maxSequenceLength: number
  /** of previews; undefined for those of FLUX.1's autoencoder */
  latentRgb: LatentRgb | undefined
}

/** Those of the official program, `src/flux/cli.py` and `src/flux/util.py` of black-forest-labs/flux. */
const DEV = { width: 1024, height: 1024, steps: 28, guidance: 3.5, maxSequenceLength: 512, latentRgb: undefined }
const SCHNELL = { ...DEV, steps: 4, guidance: undefined, maxSequenceLength: 256 }

const LATENT_CHANNELS = 16

type Check = (value: MetadataValue) => boolean

const wholeFrom = (least: number, most: number, unit = 1): Check => {
  return (value) => typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most && value % unit === 0
}

/** Metadata of a transformer's GGUF file that takes the place of a default: its key, its range, in words, and as a check. */
const KEYS: Record<Exclude<keyof ModelDefaults, 'latentRgb'>, [key: string, wanted: string, check: Check]> = {
  width: ['ggflux.width', 'a multiple of 16 from 64 to 4096', wholeFrom(64, 4096, 16)],
  height: ['ggflux.height', 'a multiple of 16 from 64 to 4096', wholeFrom(64, 4096, 16)],
  steps: ['ggflux.steps', 'a whole number from 1 to 1000', wholeFrom(1, 1000)],
  guidance: ['ggflux.guidance', 'a number from 0 to 100', (value) => typeof value === 'number' && value >= 0 && value <= 100],
  maxSequenceLength: ['ggflux.max_sequence_length', 'a whole number from 16 to 512', wholeFrom(16, 512)],
}
const LATENT_RGB = 'ggflux.latent_rgb'

/**
 * The defaults of a model: those of FLUX.1 dev or schnell, and what the transformer's file says of itself in its metadata (`ggflux.width`,
 * `.height`, `.steps`, `.guidance`, `.max_sequence_length`, `.latent_rgb`), which a model of another size or training needs.
 *
 * @throws {FluxError} FLUX_BAD_FILE for a value out of range
 */
export function modelDefaults(file: ModelFile, { guidanceEmbed }: Pick<FluxConfig, 'guidanceEmbed'>): ModelDefaults {
  const defaults: ModelDefaults = { ...(guidanceEmbed ? DEV : SCHNELL) }
  for (const [name, [key, wanted, check]] of Object.entries(KEYS) as [keyof typeof KEYS, (typeof KEYS)['width']][]) {
    const value = file.metadata.get(key)
    if (value === undefined || (name === 'guidance' && !guidanceEmbed)) continue
    if (!check(value)) throw damaged(file, key, String(value), wanted)
    defaults[name] = value as number
  }
  return { ...defaults, latentRgb: readLatentRgb(file) }
}

/** [17, 3]: red, green and blue for each channel, then for none. */
function readLatentRgb(file: ModelFile): LatentRgb | undefined {
  const value = file.metadata.get(LATENT_RGB)
  if (value === undefined) return undefined
  const count = 3 * (LATENT_CHANNELS + 1)
  if (!(value instanceof Float32Array) || value.length !== count || !value.every(Number.isFinite)) {
    throw damaged(file, LATENT_RGB, 'something else', `${count} finite numbers of type FLOAT32`)
  }
  const rows = Array.from({ length: LATENT_CHANNELS + 1 }, (_, row) => [value[3 * row]!, value[3 * row + 1]!, value[3 * row + 2]!] as const)
  return { factors: rows.slice(0, LATENT_CHANNELS), bias: rows[LATENT_CHANNELS]! }
}

function damaged({ path }: ModelFile, key: string, value: string, wanted: string): FluxError {
  const shown = value.length > 40 ? `${value.slice(0, 40)}…` : value
  return new FluxError('FLUX_BAD_FILE', `${path}: metadata ${key} is ${shown}, it has to be ${wanted}. Use another copy of the model`)
}
