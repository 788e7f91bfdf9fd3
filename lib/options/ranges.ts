import { badOption } from './checks.js'

/** The allowed values of a number. */
export interface NumberRange {
  least: number
  most: number
  /** 1 for whole numbers, more for multiples of it; 0 for any number */
  unit: number
}

const side: NumberRange = { least: 64, most: 4096, unit: 16 }

/** The ranges of an image's settings, both as options of the caller and as defaults in a model's file. */
export const RANGES = {
  width: side,
  height: side,
  steps: { least: 1, most: 1000, unit: 1 },
  guidance: { least: 0, most: 100, unit: 0 },
  maxSequenceLength: { least: 16, most: 512, unit: 1 },
  stepCache: { least: 0, most: 1, unit: 0 },
  trueCfg: { least: 1, most: 100, unit: 0 },
  strength: { least: 0, most: 1, unit: 0 },
  hiresScale: { least: 1, most: 64, unit: 0 },
  maskBlur: { least: 0, most: 256, unit: 0 },
  maskGrow: { least: -256, most: 256, unit: 1 },
} as const satisfies Record<string, NumberRange>

export function isWithin(value: unknown, { least, most, unit }: NumberRange): value is number {
  return typeof value === 'number' && value >= least && value <= most && (unit === 0 || value % unit === 0)
}

/** 'a multiple of 16 from 64 to 4096' */
export function inWords({ least, most, unit }: NumberRange): string {
  const kind = unit === 0 ? 'a number' : unit === 1 ? 'a whole number' : `a multiple of ${unit}`
  return `${kind} from ${least} to ${most}`
}

/** @throws {FluxError} FLUX_BAD_OPTION */
export function requireInRange(name: string, value: unknown, range: NumberRange): void {
  if (!isWithin(value, range)) throw badOption(name, value, inWords(range))
}
