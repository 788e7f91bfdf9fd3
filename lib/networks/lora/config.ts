import { FluxError } from '../../errors.js'
import type { ModelFile } from '../../formats/model-file.js'
import type { LoraNames } from '../definition.js'
import { quoted } from '../../formats/tensor-table.js'

/**
 * The fields of PEFT's `LoraConfig` that determine a LoRA's effect, optionally with diffusers' name of the network as a
 * prefix. Ranks come from the tensors, so `r` and `rank_pattern` add no information.
 */
const FIELD = /^(\w+\.)?(lora_alpha|alpha_pattern|use_rslora|use_dora)$/
const MAX_PATTERNS = 4096
const MAX_EXPRESSIONS = 32
/** Expressions that match quickly: at most two repetitions, and no repeated group. */
const EXPRESSION = /^\^?(?:[\w.-]|\\[.d]|\[0-9\]|\([\w.|-]+\)(?![*+])|[*+](?![*+]))*\$?$/

/**
 * The training configuration in the metadata of a LoRA's file: PEFT's configuration, as JSON under one key (diffusers),
 * or with one key per field.
 */
export type LoraConfig = ReadonlyMap<string, unknown>

/** @throws {FluxError} FLUX_BAD_FILE if it cannot be parsed */
export function loraConfig({ path, metadata }: ModelFile): LoraConfig {
  const fields = new Map<string, unknown>()
  for (const [key, text] of metadata)
    if (FIELD.test(key) && typeof text === 'string') fields.set(key, parsed(path, key, text))
  const nested = metadata.get('lora_adapter_metadata')
  if (typeof nested !== 'string') return fields
  const config = parsed(path, 'lora_adapter_metadata', nested)
  if (!isObject(config)) throw bad(path, 'lora_adapter_metadata', 'is no JSON object')
  for (const [key, value] of Object.entries(config)) if (FIELD.test(key)) fields.set(key, value)
  return fields
}

/** The field that shows that a file is a DoRA. */
export function doraField(config: LoraConfig): string | undefined {
  return [...config].find(([key, value]) => key.endsWith('use_dora') && value === true)?.[0]
}

/**
 * Finds the scales of layers without their own alpha.
 *
 * @throws {FluxError} FLUX_BAD_FILE for a value that is not a number; FLUX_UNSUPPORTED for a pattern that is not
 *   supported
 */
export function scaleFinder(
  path: string,
  config: LoraConfig,
  { prefix, component }: Pick<LoraNames<object>, 'prefix' | 'component'>,
): (layer: string, rank: number) => number {
  const field = (name: string): [key: string, value: unknown] => {
    const key = `${component}.${name}`
    return config.has(key) ? [key, config.get(key)] : [name, config.get(name)]
  }
  const [alphaKey, alpha] = field('lora_alpha')
  const common = alpha === undefined || alpha === null ? undefined : numberOf(path, alphaKey, alpha)
  const [patternKey, pattern] = field('alpha_pattern')
  const own = patternsOf(path, patternKey, pattern ?? {})
  const stabilised = field('use_rslora')[1] === true
  return (layer, rank) => {
    const bare = layer.replace(prefix, '')
    const value = own.find(({ fits }) => fits(bare))?.value ?? common
    return value === undefined ? 1 : value / (stabilised ? Math.sqrt(rank) : rank)
  }
}

/**
 * Reads patterns as PEFT does. Each key is a layer's name, the end of the name after a dot, or a regular expression for
 * either. The first match is used.
 */
function patternsOf(
  path: string,
  key: string,
  patterns: unknown,
): { fits: (layer: string) => boolean; value: number }[] {
  if (!isObject(patterns)) throw bad(path, key, 'is no JSON object')
  const entries = Object.entries(patterns)
  const expressions = entries.filter(([pattern]) => !isName(pattern)).length
  if (entries.length > MAX_PATTERNS || expressions > MAX_EXPRESSIONS) {
    const counts = `${entries.length} patterns, ${expressions} of them regular expressions; ${MAX_PATTERNS} and ${MAX_EXPRESSIONS} are possible`
    throw bad(path, key, `has ${counts}`)
  }
  return entries.map(([pattern, value]) => ({
    fits: matcher(path, key, pattern),
    value: numberOf(path, `${key}, ${quoted(pattern)}`, value),
  }))
}

const isName = (pattern: string): boolean => /^[\w.-]+$/.test(pattern)

function matcher(path: string, key: string, pattern: string): (layer: string) => boolean {
  if (isName(pattern)) return (layer) => layer === pattern || layer.endsWith(`.${pattern}`)
  try {
    if (EXPRESSION.test(pattern) && pattern.split(/[*+]/).length <= 3) {
      const expression = new RegExp(`^(.*\\.)?(${pattern})$`)
      return (layer) => expression.test(layer)
    }
  } catch {
    // not a regular expression
  }
  const message = `${path}: metadata ${key} has the pattern ${quoted(pattern)}, which is not read`
  throw new FluxError('FLUX_UNSUPPORTED', `${message}. Save the LoRA with the names of layers in its place`)
}

/** Parses JSON, or Python's printed form of it. */
function parsed(path: string, key: string, text: string): unknown {
  const json = [
    text,
    text.replaceAll("'", '"').replaceAll('True', 'true').replaceAll('False', 'false').replaceAll('None', 'null'),
  ]
  for (const one of json) {
    try {
      return JSON.parse(one)
    } catch {
      // the other form, or neither
    }
  }
  throw bad(path, key, `is ${quoted(text.slice(0, 64))}, which is no JSON`)
}

function numberOf(path: string, key: string, value: unknown): number {
  const number = typeof value === 'string' ? Number(value) : value
  if (typeof number === 'number' && Number.isFinite(number)) return number
  throw bad(path, key, `is ${JSON.stringify(value)}; a number is expected`)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function bad(path: string, key: string, message: string): FluxError {
  return new FluxError('FLUX_BAD_FILE', `${path}: metadata ${key} ${message}. Use another copy of the LoRA`)
}
