import { FluxError } from '../errors.js'

/** A part of a prompt whose words have the same weight. */
export interface WeightedText {
  text: string
  /** factor of the words' effect; 1 changes nothing */
  weight: number
}

/** Brackets in text that was escaped, so that they are no brackets while the prompt is read. */
const ESCAPED: readonly (readonly [written: string, hidden: string, meant: string])[] = [
  ['\\)', '\0\u0001', ')'],
  ['\\(', '\0\u0002', '('],
  ['\\]', '\0\u0003', ']'],
  ['\\[', '\0\u0004', '['],
]

/** Brackets around words, and the factor of their weight. */
const BRACKETS: readonly { open: string; close: string; factor: number }[] = [
  { open: '(', close: ')', factor: 1.1 },
  { open: '[', close: ']', factor: 1 / 1.1 },
]

const MAX_WEIGHT = 100
const MAX_DEPTH = 100
/** as Python's `float()` reads it, but for names (inf, nan) */
const NUMBER = /^\s*[+-]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)(e[+-]?\d+(_\d+)*)?\s*$/i

/**
 * Reads the weights in a prompt: `(word:1.3)` sets a weight, `(word)` multiplies it by 1.1, `[word]` divides it by 1.1.
 * Brackets may be nested; a number applies to everything inside that has no own. `\(`, `\)`, `\[` and `\]` are text, as
 * are brackets without their other half. Source: comfyanonymous/ComfyUI, `comfy/sd1_clip.py` (`token_weights`), which
 * has no `[word]`; that is A1111's.
 *
 * @returns the parts in order, without brackets; their spaces are kept
 * @throws {FluxError} FLUX_BAD_OPTION for weights beyond 100 and brackets nested more than 100 deep
 */
export function parsePromptWeights(prompt: string): WeightedText[] {
  const hidden = ESCAPED.reduce((text, [written, hidden]) => text.replaceAll(written, hidden), prompt)
  return weigh(hidden, 1, 0).map(({ text, weight }) => ({
    text: ESCAPED.reduce((text, [, hidden, meant]) => text.replaceAll(hidden, meant), text),
    weight,
  }))
}

function weigh(text: string, weight: number, depth: number): WeightedText[] {
  if (depth > MAX_DEPTH) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `prompt has brackets nested more than ${MAX_DEPTH} deep; write the weight as a number: (word:1.3)`,
    )
  }
  return groupsOf(text).flatMap((group) => {
    const bracket = BRACKETS.find(
      ({ open, close }) => group.length > 1 && group.startsWith(open) && group.endsWith(close),
    )
    if (!bracket) return [{ text: group, weight: checked(weight, group) }]
    const inside = group.slice(1, -1)
    const colon = bracket.open === '(' ? inside.lastIndexOf(':') : -1
    const number = inside.slice(colon + 1)
    return colon > 0 && NUMBER.test(number)
      ? weigh(inside.slice(0, colon), Number(number.replaceAll('_', '')), depth + 1)
      : weigh(inside, weight * bracket.factor, depth + 1)
  })
}

/** Cuts a text into its outermost groups in brackets and what is between them. */
function groupsOf(text: string): string[] {
  const groups: string[] = []
  let [start, level, bracket] = [0, 0, BRACKETS[0]!]
  const cut = (end: number) => {
    if (end > start) groups.push(text.slice(start, end))
    start = end
  }
  for (let at = 0; at < text.length; at++) {
    const opened = level === 0 ? BRACKETS.find(({ open }) => open === text[at]) : undefined
    if (opened) {
      cut(at)
      bracket = opened
      level = 1
    } else if (text[at] === bracket.open) level++
    else if (text[at] === bracket.close && --level === 0) {
      cut(at + 1)
      bracket = BRACKETS[0]!
    }
  }
  cut(text.length)
  return groups
}

function checked(weight: number, text: string): number {
  if (Math.abs(weight) <= MAX_WEIGHT) return weight
  throw new FluxError(
    'FLUX_BAD_OPTION',
    `prompt gives ${JSON.stringify(text.slice(0, 40))} the weight ${weight}; give one from -${MAX_WEIGHT} to ${MAX_WEIGHT}`,
  )
}

/**
 * Applies weights to a text encoder's states: each state's distance from the state that an empty prompt has at the same
 * place is multiplied by the weight of its token. Source: comfyanonymous/ComfyUI, `comfy/sd1_clip.py`
 * (`ClipTokenWeightEncoder`).
 *
 * @param states [n, width] of the prompt
 * @param empty [n, width] of a prompt without text, padded to the same length
 * @param weights [n]; 1 leaves a state as it is
 * @returns [n, width]
 */
export function applyPromptWeights(states: Float32Array, empty: Float32Array, weights: Float32Array): Float32Array {
  const width = states.length / weights.length
  return states.map((state, i) => {
    const weight = weights[Math.floor(i / width)]!
    return weight === 1 ? state : Math.fround(Math.fround(state - empty[i]!) * weight) + empty[i]!
  })
}
