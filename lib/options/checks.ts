import { inspect } from 'node:util'
import { FluxError } from '../errors.js'

/** The error for an option with an invalid value. `wanted` describes the valid values. */
export function badOption(name: string, value: unknown, wanted: string): FluxError {
  const shown = inspect(value, {
    depth: 0,
    maxStringLength: 80,
    maxArrayLength: 4,
    breakLength: Infinity,
    customInspect: false,
  })
  return new FluxError('FLUX_BAD_OPTION', `${name} is ${shown}: give ${wanted}`)
}

/**
 * Rejects values that are not objects and names that are not in `known`, so that a misspelt option is not silently
 * ignored.
 */
export function requireOptions(what: string, options: object, known: readonly string[]): void {
  const isObject = typeof options === 'object' && options !== null && !Array.isArray(options)
  if (!isObject) throw badOption(what, options, `an object with ${known.join(', ')}`)
  for (const name of Object.keys(options)) {
    if (!known.includes(name))
      throw new FluxError('FLUX_BAD_OPTION', `there is no ${name} in ${what}; there are ${known.join(', ')}`)
  }
}

export function requireOneOf<T extends string>(name: string, value: T, possible: readonly string[]): T {
  if (typeof value !== 'string' || !possible.includes(value))
    throw badOption(name, value, `one of ${possible.join(', ')}`)
  return value
}

export function requireWhole(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most)
    throw badOption(name, value, `a whole number from ${least} to ${most}`)
  return value
}

export function requirePath(name: string, path: unknown, wanted: string): void {
  if (typeof path !== 'string' || path === '') throw badOption(name, path, wanted)
}

/** @param value in bytes */
export function requireDeviceMemory(value: number): number {
  return requireWhole('deviceMemory', value, 0, Number.MAX_SAFE_INTEGER)
}

export function requireSignal(signal: AbortSignal | undefined): void {
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw badOption('signal', signal, 'an AbortSignal')
}
