import { FluxError } from '../errors.js'

/** The allowed values of a configuration field. */
export interface FieldRule {
  kind: 'integer' | 'number' | 'boolean' | 'integers'
  /** the minimum of the number, or of every number in a list; default 0 */
  min?: number
  max?: number
  /** the allowed length of a list; default 1 to 16 */
  length?: [min: number, max: number]
  multipleOf?: number
  /** true if shapes cannot show the value, so that an override may differ from the value that was read */
  free?: boolean
}

const ANY_LENGTH: [number, number] = [1, 16]

export type ConfigRules<C> = { [K in keyof C]-?: FieldRule }

/**
 * Checks a configuration read from shapes and applies the overrides to it.
 *
 * @param derived the fields from the file; fields that shapes cannot show and that have no default are left out
 * @throws {FluxError} FLUX_BAD_OPTION for an override that is unknown, has the wrong type, is out of range, or
 *   contradicts the file; FLUX_UNSUPPORTED if the file itself is out of range
 */
export function completeConfig<C extends object>(
  derived: Partial<C>,
  rules: ConfigRules<C>,
  overrides: Partial<C> = {},
): C {
  checkFields(overrides, rules)
  const config = { ...derived }
  for (const [field, value] of Object.entries(overrides) as [keyof C & string, C[keyof C & string] | undefined][]) {
    if (value === undefined) continue
    if (!rules[field].free && value !== derived[field] && show(value) !== show(derived[field])) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `config.${field} is ${show(value)}, but the file's tensors say ${show(derived[field])}. Leave the field out`,
      )
    }
    config[field] = value
  }
  for (const field of Object.keys(rules) as (keyof C & string)[]) {
    const value = config[field]
    if (value === undefined) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `config.${field} cannot be read from the file. Give it: ${describe(rules[field])}`,
      )
    }
    const fault = faultOf(value, rules[field])
    if (fault)
      throw new FluxError(
        'FLUX_UNSUPPORTED',
        `by its tensors' shapes ${field} is ${show(value)}; supported is ${fault}. Use another model`,
      )
  }
  return config as C
}

/** @throws {FluxError} FLUX_BAD_OPTION for a field that is unknown, has the wrong type or is out of range */
export function checkFields<C extends object>(fields: Partial<C>, rules: ConfigRules<C>): void {
  for (const [field, value] of Object.entries(fields) as [keyof C & string, unknown][]) {
    if (value === undefined) continue
    if (!Object.hasOwn(rules, field)) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `config.${field} is unknown. The fields are ${Object.keys(rules).join(', ')}`,
      )
    }
    const fault = faultOf(value, rules[field])
    if (fault) throw new FluxError('FLUX_BAD_OPTION', `config.${field} is ${show(value)}; it has to be ${fault}`)
  }
}

const show = (value: unknown): string => JSON.stringify(value) ?? String(value)

function faultOf(value: unknown, rule: FieldRule): string | undefined {
  return fits(value, rule) ? undefined : describe(rule)
}

function fits(value: unknown, rule: FieldRule): boolean {
  const { kind, min = 0, max = Infinity, multipleOf = 1, length: [shortest, longest] = ANY_LENGTH } = rule
  if (kind === 'boolean') return typeof value === 'boolean'
  if (kind === 'integers') {
    return (
      Array.isArray(value) &&
      value.length >= shortest &&
      value.length <= longest &&
      value.every((element) => fits(element, { ...rule, kind: 'integer' }))
    )
  }
  if (typeof value !== 'number' || !(value >= min && value <= max)) return false
  return kind === 'number' || (Number.isInteger(value) && value % multipleOf === 0)
}

function describe({ kind, min = 0, max = Infinity, multipleOf = 1, length = ANY_LENGTH }: FieldRule): string {
  if (kind === 'boolean') return 'true or false'
  const bounds = max === Infinity ? `from ${min}` : `from ${min} to ${max}`
  if (kind === 'number') return `a number ${bounds}`
  const multiple = multipleOf > 1 ? `, a multiple of ${multipleOf}` : ''
  if (kind === 'integer') return `a whole number ${bounds}${multiple}`
  const [shortest, longest] = length
  return `a list of ${shortest === longest ? shortest : `${shortest} to ${longest}`} whole numbers ${bounds}${multiple}`
}
