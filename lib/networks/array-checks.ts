import { FluxError } from '../errors.js'

/** The number of rows [n, width] of an array. @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE */
export function rows(name: string, array: Float32Array, width: number): number {
  if (!(array instanceof Float32Array)) throw new FluxError('FLUX_BAD_OPTION', `${name} must be a Float32Array`)
  if (array.length === 0 || array.length % width !== 0) {
    throw new FluxError('FLUX_BAD_SHAPE', `${name} has ${array.length} numbers; whole rows of ${width} are needed`)
  }
  return array.length / width
}

/** Rejects an array of another length. @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE */
export function exactly(name: string, array: Float32Array, length: number): void {
  if (!(array instanceof Float32Array)) throw new FluxError('FLUX_BAD_OPTION', `${name} must be a Float32Array`)
  if (array.length !== length)
    throw new FluxError('FLUX_BAD_SHAPE', `${name} has ${array.length} numbers; ${length} are needed`)
}

/** Rejects sides that are not multiples of `unit`. @throws {FluxError} FLUX_BAD_OPTION */
export function sides(height: number, width: number, unit: number): void {
  for (const [name, side] of Object.entries({ height, width })) {
    if (!Number.isInteger(side) || side < 1 || side > 32768 || side % unit !== 0) {
      throw new FluxError(
        'FLUX_BAD_OPTION',
        `${name} is ${side}; a whole number from 1 to 32768${unit > 1 ? ` and a multiple of ${unit}` : ''} is needed`,
      )
    }
  }
}

/** The number of tokens. Each token must be in the vocabulary. @throws {FluxError} FLUX_BAD_OPTION, FLUX_BAD_SHAPE */
export function tokenCount(tokens: Int32Array, most: number, vocabulary: number): number {
  if (!(tokens instanceof Int32Array)) throw new FluxError('FLUX_BAD_OPTION', 'tokens must be an Int32Array')
  if (tokens.length < 1 || tokens.length > most)
    throw new FluxError('FLUX_BAD_SHAPE', `there are ${tokens.length} tokens; 1 to ${most} are possible`)
  const wrong = tokens.find((token) => token < 0 || token >= vocabulary)
  if (wrong !== undefined) {
    throw new FluxError(
      'FLUX_BAD_SHAPE',
      `token ${wrong} is outside of the vocabulary of ${vocabulary}; the tokenizer belongs to another model`,
    )
  }
  return tokens.length
}
