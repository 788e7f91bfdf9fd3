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
