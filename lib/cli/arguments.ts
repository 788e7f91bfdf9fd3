import { InvalidArgumentError } from 'commander'
import type { LoraOptions } from '../index.js'

export function parseNumber(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('Give a number.')
  return value
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
      const [name = '', pixels = ''] = side.split('=')
      return [name, parseNumber(pixels)]
    }),
  )
}

/**
 * `file=net.gguf,image=edges.png,scale=0.7`: one more object with these names. Numbers become numbers, and `file` is
 * called `path`. A comma in a path cannot be written.
 */
export function addEntries<T>(...names: string[]): (text: string, before?: T[]) => T[] {
  return (text, before = []) => {
    const entries = text.split(',').map((entry) => {
      const [, name = '', value = ''] = /^([^=]*)=(.*)$/.exec(entry) ?? []
      if (!names.includes(name) || value === '') throw new InvalidArgumentError(`Give ${names.join('=…, ')}=….`)
      return [name === 'file' ? 'path' : name, Number.isNaN(Number(value)) ? value : Number(value)]
    })
    return [...before, Object.fromEntries(entries) as T]
  }
}
