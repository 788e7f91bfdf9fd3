import { InvalidArgumentError } from 'commander'

export function parseNumber(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('Give a number.')
  return value
}

/** `1,0.75,0.5` */
export function parseNumbers(text: string): number[] {
  return text.split(',').map(parseNumber)
}
