import { basename } from 'node:path'
import { FluxError } from '../../errors.js'
import { inWords, isWithin, RANGES } from '../../options/ranges.js'
import type { FluxConfig } from '../../networks/flux/layout.js'
import type { ModelFile } from '../../formats/model-file.js'
import type { Defaults, Variant } from '../family.js'
import type { LatentRgb } from '../latent-format.js'
import { kontextSize } from './kontext-sizes.js'
import { FLUX_LATENT, FLUX_RGB } from './latent.js'

type VariantSource = { file: ModelFile; config: Pick<FluxConfig, 'guidanceEmbed' | 'inChannels' | 'outChannels'> }

/** The defaults of the official program, `src/flux/cli.py` and `src/flux/util.py` of black-forest-labs/flux. */
const DEV: Defaults = { width: 1024, height: 1024, steps: 28, guidance: 3.5, shift: true, maxSequenceLength: 512 }
const SCHNELL: Defaults = { ...DEV, steps: 4, guidance: undefined, shift: false, maxSequenceLength: 256 }

/** What a transformer reads, by the number of its input channels for each output channel. */
const READS: Record<number, Variant['reads']> = { 2: 'control', 6: 'fill' }

/** Metadata keys of a transformer's GGUF file that override the defaults. */
const KEYS = {
  width: 'ggflux.width',
  height: 'ggflux.height',
  steps: 'ggflux.steps',
  guidance: 'ggflux.guidance',
  maxSequenceLength: 'ggflux.max_sequence_length',
} as const satisfies Partial<Record<keyof typeof RANGES, string>>
const LATENT_RGB = 'ggflux.latent_rgb'

/**
 * The defaults and the latent's colours for a model. They are those of FLUX.1 dev or schnell, unless the transformer's
 * metadata overrides them (`ggflux.width`, `.height`, `.steps`, `.guidance`, `.max_sequence_length`, `.latent_rgb`). A
 * model of another size or training needs such metadata.
 *
 * @throws {FluxError} FLUX_BAD_FILE for a value out of range
 */
export function fluxVariant({ file, config }: VariantSource): Variant {
  const defaults = { ...(config.guidanceEmbed ? DEV : SCHNELL) }
  for (const name of Object.keys(KEYS) as (keyof typeof KEYS)[]) {
    const value = file.metadata.get(KEYS[name])
    if (value === undefined || (name === 'guidance' && !config.guidanceEmbed)) continue
    if (!isWithin(value, RANGES[name])) throw damaged(file, KEYS[name], String(value), inWords(RANGES[name]))
    defaults[name] = value
  }
  const title = deDistilledTitle(file, config)
  return {
    defaults,
    latent: { ...FLUX_LATENT, rgbFactors: readLatentRgb(file) ?? FLUX_RGB },
    warnings: title === undefined ? [] : [deDistilled(file.path, title)],
    ...(defaults.width === DEV.width && defaults.height === DEV.height ? { referenceSize: kontextSize } : {}),
    reads: READS[config.inChannels / config.outChannels] ?? 'references',
    editsReferences: /kontext/i.test([basename(file.path), ...titlesOf(file)].join(' ')),
  }
}

function deDistilled(path: string, title: string): string {
  const remedy = 'Give it about 28 steps, shift: true and trueCfg of about 3.5'
  return `${path}: the model has no guidance, and its metadata calls it '${title}', so it is no schnell, though the defaults are schnell's. ${remedy}`
}

/** The metadata keys with the model's title in GGUF and safetensors files. */
const TITLES = ['general.name', 'general.basename', 'general.finetune', 'modelspec.title']

/**
 * The title of a de-distilled model: one with schnell's structure whose guidance distillation was trained out again.
 * Such a model needs more steps and a shifted schedule. Only its title shows the difference. A file that sets its own
 * steps needs no advice.
 */
export function deDistilledTitle(
  { metadata }: ModelFile,
  { guidanceEmbed }: Pick<FluxConfig, 'guidanceEmbed'>,
): string | undefined {
  if (guidanceEmbed || metadata.has(KEYS.steps)) return undefined
  const title = titlesOf({ metadata }).find((title) =>
    /(de|un)[-_ ]?distill|openflux|libreflux|(^|[^a-z])dev([^a-z]|$)/i.test(title),
  )
  return title?.slice(0, 80)
}

function titlesOf({ metadata }: Pick<ModelFile, 'metadata'>): string[] {
  return TITLES.map((key) => metadata.get(key)).filter((title) => typeof title === 'string')
}

/** [17, 3]: red, green and blue for each channel, then the bias. */
function readLatentRgb(file: ModelFile): LatentRgb | undefined {
  const value = file.metadata.get(LATENT_RGB)
  if (value === undefined) return undefined
  const count = 3 * (FLUX_LATENT.channels + 1)
  if (!(value instanceof Float32Array) || value.length !== count || !value.every(Number.isFinite)) {
    throw damaged(file, LATENT_RGB, 'something else', `${count} finite numbers of type FLOAT32`)
  }
  const rows = Array.from(
    { length: FLUX_LATENT.channels + 1 },
    (_, row) => [value[3 * row]!, value[3 * row + 1]!, value[3 * row + 2]!] as const,
  )
  return { factors: rows.slice(0, FLUX_LATENT.channels), bias: rows[FLUX_LATENT.channels]! }
}

function damaged({ path }: ModelFile, key: string, value: string, wanted: string): FluxError {
  const shown = value.length > 40 ? `${value.slice(0, 40)}…` : value
  return new FluxError(
    'FLUX_BAD_FILE',
    `${path}: metadata ${key} is ${shown}, it has to be ${wanted}. Use another copy of the model`,
  )
}
