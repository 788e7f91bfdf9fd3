import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { GenerateOptions } from '../../../lib/pipeline/generate-options.js'
import type { FluxPipeline } from '../../../lib/pipeline/pipeline.js'
import { agrees, type Agreement, type Wanted } from './agreement.js'
import { Confusion } from './confusion.js'
import { judge } from './judge.js'

export interface Prompt extends Wanted {
  prompt: string
}

const FILE = fileURLToPath(new URL('../../../models/tiny/held-out-prompts.json', import.meta.url))

/** Prompts of the tiny model's world that it was never trained on: 120 with one thing, 120 with two. */
export function heldOutPrompts(): { single: Prompt[]; pair: Prompt[] } {
  const all = JSON.parse(readFileSync(FILE, 'utf8')) as Prompt[]
  return {
    single: all.filter(({ things }) => things.length === 1),
    pair: all.filter(({ things }) => things.length === 2),
  }
}

/** an even choice, so that every shape and colour is among them */
export const some = <T>(all: T[], count: number): T[] =>
  Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!)

/** What one prompt's picture shows of what was wanted. */
export interface Verdict {
  prompt: Prompt
  seed: number
  agreement: Agreement
  /** right number of things, each in its colour, and the relation */
  composed: boolean
  /** that, and every shape */
  right: boolean
}

/** Makes a picture of every prompt, with seeds of its own that are the same every time, and judges it. */
export async function trial(
  pipe: FluxPipeline,
  prompts: Prompt[],
  options: Partial<GenerateOptions> = {},
): Promise<Verdict[]> {
  const { width = 128, height = 128 } = options
  const verdicts: Verdict[] = []
  for (const [index, prompt] of prompts.entries()) {
    const seed = 1000 + index
    const rgb = await pipe.generate({ ...options, prompt: prompt.prompt, seed, width, height, format: 'raw' })
    verdicts.push(verdict(rgb, width, height, prompt, seed))
  }
  return verdicts
}

/** `rgb` is [height, width, 3]. */
export function verdict(rgb: Uint8Array, width: number, height: number, prompt: Prompt, seed: number): Verdict {
  const agreement = agrees(judge(rgb, width, height), prompt)
  const { count, things, relation } = agreement
  const composed = count && relation && things.every(({ color }) => color)
  return { prompt, seed, agreement, composed, right: composed && things.every(({ shape }) => shape) }
}

/** part of the pictures that are */
export function rate(verdicts: Verdict[], which: 'right' | 'composed' = 'right'): number {
  return verdicts.filter((verdict) => verdict[which]).length / verdicts.length
}

export const percent = (part: number): string => `${(100 * part).toFixed(1)} %`

/** Shapes and colours, wanted and seen, and the prompts that failed. */
export function report(title: string, verdicts: Verdict[]): string {
  const [shapes, colors] = [new Confusion('shape'), new Confusion('colour')]
  for (const { prompt, agreement } of verdicts) {
    prompt.things.forEach(({ shape, color }, i) => {
      const { seen } = agreement.things[i]!
      shapes.add(shape, seen?.shape ?? 'missing')
      colors.add(color, seen?.color ?? 'missing')
    })
  }
  const failed = verdicts
    .filter(({ right }) => !right)
    .map(({ prompt, seed, agreement }) => `${seed} ${prompt.prompt}: ${faults(agreement)}`)
  const parts = `${percent(rate(verdicts))} right, ${percent(rate(verdicts, 'composed'))} but for shapes, of ${verdicts.length}`
  return [`${title}: ${parts}`, shapes, colors, ...failed].join('\n\n')
}

function faults({ count, things, relation }: Agreement): string {
  const wrong = things.flatMap(({ seen, shape, color }, i) => {
    if (!seen) return [`thing ${i + 1} is missing`]
    return [
      ...(shape ? [] : [`thing ${i + 1} is a ${seen.shape}`]),
      ...(color ? [] : [`thing ${i + 1} is ${seen.color}`]),
    ]
  })
  return [...(count ? [] : ['another number of things']), ...wrong, ...(relation ? [] : ['the relation'])].join(', ')
}
