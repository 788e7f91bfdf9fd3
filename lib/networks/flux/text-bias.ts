import { badOption, requireOptions, requireWhole } from '../../options/checks.js'

/**
 * How strongly a run of text tokens, such as those of a Redux image, is attended to. All image tokens and the text
 * tokens before the run are affected. The run's own tokens, and text tokens after it, are not. Source:
 * comfyanonymous/ComfyUI, `nodes.py` (`StyleModelApply`, `attn_bias`), which appends one image after the other.
 */
export interface TextBias {
  /** index of the run's first token */
  first: number
  /** the number of its tokens */
  count: number
  /** factor of the attention, 0 to 10: its logarithm is added to the scores; 1 changes nothing, 0 hides the run */
  strength: number
}

const MAX_BIAS_STRENGTH = 10

/** exp(-10,000) is 0 in every precision. Half precision has no smaller round number, and -Infinity - -Infinity is NaN. */
const HIDDEN = -10_000

/**
 * What is added to the scores of the text tokens, as the native side takes it.
 *
 * @param tokens T, the number of text tokens
 * @returns [T + 1, T]: a row for each text token that attends, and one for all image tokens; undefined if nothing is
 *   added
 * @throws {FluxError} FLUX_BAD_OPTION for a run outside of the text or a strength out of range
 */
export function biasRows(runs: readonly TextBias[], tokens: number): Float32Array | undefined {
  if (!Array.isArray(runs)) throw badOption('textBias', runs, 'an array of { first, count, strength }')
  runs.forEach((run, i) => checkRun(run, `textBias[${i}]`, tokens))
  const acting = runs.filter(({ strength }) => strength !== 1)
  if (acting.length === 0) return undefined
  const rows = new Float32Array((tokens + 1) * tokens)
  for (const { first, count, strength } of acting) {
    const bias = strength === 0 ? HIDDEN : Math.log(strength)
    for (let row = 0; row <= tokens; row++) {
      if (row >= first && row < tokens) continue
      const start = row * tokens + first
      for (let at = start; at < start + count; at++) rows[at] = Math.max(HIDDEN, rows[at]! + bias)
    }
  }
  return rows
}

function checkRun(run: TextBias, name: string, tokens: number): void {
  requireOptions(name, run, ['first', 'count', 'strength'])
  const { first, count, strength } = run
  requireWhole(`${name}.first`, first, 0, tokens - 1)
  requireWhole(`${name}.count`, count, 1, tokens - first)
  if (typeof strength !== 'number' || !(strength >= 0 && strength <= MAX_BIAS_STRENGTH))
    throw badOption(`${name}.strength`, strength, `a number from 0 to ${MAX_BIAS_STRENGTH}`)
}
