import { InvalidArgumentError } from 'commander'
import type { LoraOptions } from '../index.js'

export function parseNumber(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('Give a number.')
  return value
}

/** One more text of an option that may be repeated. */
export function addText(text: string, before: string[] = []): string[] {
  return [...before, text]
}

/** Seconds, or `forever`. */
export function parseKeepAlive(text: string): number {
  if (text === 'forever') return Infinity
  const seconds = parseNumber(text)
  if (seconds < 0) throw new InvalidArgumentError('Give seconds, or forever.')
  return seconds
}

/** `1,0.75,0.5` */
export function parseNumbers(text: string): number[] {
  return text.split(',').map(parseNumber)
}

/** `style.safetensors` or `style.safetensors:0.8` */
export function addLora(text: string, before: LoraOptions[] = []): LoraOptions[] {
  const [, path = text, scale] = /^(.*):(-?\d*\.?\d+)$/.exec(text) ?? []
  return [...before, scale === undefined ? { path } : { path, scale: Number(scale) }]
}

/** `--only-masked` or `--only-masked 64` */
export function parsePadding(text: string): { padding: number } {
  return { padding: parseNumber(text) }
}

/** `left=64,right=64` */
export function parseSides(text: string): Record<string, number> {
  return Object.fromEntries(
    text.split(',').map((side) => {
      const [, name, pixels] = /^([^=]+)=(.+)$/.exec(side) ?? []
      if (name === undefined || pixels === undefined)
        throw new InvalidArgumentError('Give pixels for left, right, top or bottom, such as left=64,right=64.')
      return [name, parseNumber(pixels)]
    }),
  )
}

/**
 * `file=net.gguf,image=edges.png,scale=0.7`: one more object with these names, all of `required` and some of
 * `optional`. Numbers become numbers, and `file` is called `path`. A comma in a path cannot be written.
 */
export function addEntries<T>(
  required: readonly string[],
  optional: readonly string[],
): (text: string, before?: T[]) => T[] {
  const shown = (names: readonly string[]) => names.map((name) => `${name}=…`).join(',')
  const wanted = `Give ${shown(required)} and, as needed, ${shown(optional)}, without spaces between them.`
  return (text, before = []) => {
    const entries = text.split(',').map((entry) => {
      const [, name = '', value = ''] = /^([^=]*)=(.*)$/.exec(entry) ?? []
      if (![...required, ...optional].includes(name) || value === '') throw new InvalidArgumentError(wanted)
      const isNumber = !required.includes(name) && !Number.isNaN(Number(value))
      return [name, isNumber ? Number(value) : value] as const
    })
    const { file, ...others } = Object.fromEntries(entries)
    const missing = required.filter((name) => !entries.some(([given]) => given === name))
    if (missing.length > 0) throw new InvalidArgumentError(`${missing.join(' and ')} is missing. ${wanted}`)
    return [...before, { ...(file === undefined ? {} : { path: file }), ...others } as T]
  }
}
