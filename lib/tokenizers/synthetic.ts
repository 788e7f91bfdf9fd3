import type { T5Vocabulary } from './t5-vocabulary.js'
import { FluxError } from '../errors.js'
import { BYTE_SYMBOLS } from './byte-symbols.js'
import type { ClipVocabulary } from './clip.js'
import { PIECE_TYPE } from './unigram.js'

/** The words of prompts for small models, the most likely first. */
const WORDS =
  `a the of on in with and at to red green blue yellow black white orange purple pink brown gray gold silver circle square
triangle star line ring cross dot heart cube ball photo painting drawing picture image background cat dog bird fish horse fox bear lion
rabbit tree flower leaf grass forest mountain river sea beach sky cloud sun moon night day rain snow fire water light dark bright soft
shadow house castle city street bridge tower garden field road window door boat ship car train robot knight dragon wizard woman man girl
boy child face portrait eye hand hat book cup table chair glass metal wood stone paper large small big tiny old new left right above below
behind under over near two three four one warm cold misty sunny stormy quiet wild round sharp smooth golden shiny sketch watercolor oil
digital art style detailed simple view from by is that holding sign says hello world sitting standing running flying`.split(
    /\s+/,
  )

/**
 * Pieces for a small T5 model: padding 0, end 1, unknown 2, the printable ASCII characters, then words, then pairs of
 * letters.
 *
 * @param vocabSize number of pieces; at least 98
 * @throws FluxError FLUX_BAD_OPTION
 */
export function syntheticT5Vocabulary(
  vocabSize: number,
): T5Vocabulary & { tokens: string[]; scores: number[]; types: number[] } {
  const ascii = Array.from({ length: 0x7e - 0x20 }, (_, index) => String.fromCharCode(0x21 + index))
  const letters = ascii.filter((character) => character >= 'a' && character <= 'z')
  const pairs = letters.flatMap((first) => letters.map((second) => first + second))
  // A word must cost less than its characters together, or it would never be chosen.
  const pieces: [string, number][] = [
    ['▁', -7],
    ...ascii.map((character): [string, number] => [character, -7]),
    ...WORDS.map((word, index): [string, number] => [`▁${word}`, -4 - index / 100]),
    ...pairs.map((pair): [string, number] => [pair, -9]),
  ]
  checkSize(vocabSize, 3 + 1 + ascii.length)
  const chosen = pieces.slice(0, vocabSize - 3)
  const { control, unknown, normal } = PIECE_TYPE
  const unused = Array.from({ length: vocabSize - 3 - chosen.length }, (_, index) => `[unused${index}]`)
  return {
    tokens: ['<pad>', '</s>', '<unk>', ...chosen.map(([token]) => token), ...unused],
    scores: [0, 0, 0, ...chosen.map(([, score]) => score), ...unused.map(() => 0)],
    types: [control, control, unknown, ...chosen.map(() => normal), ...unused.map(() => PIECE_TYPE.unused)],
    padId: 0,
    endId: 1,
    unknownId: 2,
    characterMap: undefined,
    addSpacePrefix: true,
    removeExtraWhitespaces: true,
  }
}

/** every byte, every byte at the end of a word, begin and end */
export const SMALLEST_CLIP_VOCABULARY = 2 * BYTE_SYMBOLS.length + 2

/**
 * A vocabulary for a small CLIP text encoder, in the order of OpenAI's: bytes, bytes at the end of a word, merges that
 * build words, begin, end.
 *
 * @param vocabSize number of symbols; at least 514
 * @throws FluxError FLUX_BAD_OPTION
 */
export function syntheticClipVocabulary(vocabSize: number): ClipVocabulary {
  checkSize(vocabSize, SMALLEST_CLIP_VOCABULARY)
  const merges: [string, string][] = []
  const count = vocabSize - SMALLEST_CLIP_VOCABULARY
  for (const word of WORDS) {
    let symbols = [...word.slice(0, -1), `${word.at(-1)}</w>`]
    for (const merge of merges) symbols = join(symbols, merge)
    while (symbols.length > 1 && merges.length < count) {
      const merge: [string, string] = [symbols[0]!, symbols[1]!]
      merges.push(merge)
      symbols = join(symbols, merge)
    }
  }
  const symbols = [
    ...BYTE_SYMBOLS,
    ...BYTE_SYMBOLS.map((byte) => `${byte}</w>`),
    ...merges.map((merge) => merge.join('')),
  ]
  const unused = Array.from({ length: vocabSize - 2 - symbols.length }, (_, index) => `<|unused${index}|>`)
  const all = [...symbols, ...unused, '<|startoftext|>', '<|endoftext|>']
  return {
    vocab: Object.fromEntries(all.map((symbol, id) => [symbol, id])),
    merges: merges.map((merge) => merge.join(' ')),
  }
}

/** Joins every adjacent pair of `left` and `right` into one piece. */
function join(symbols: string[], [left, right]: [string, string]): string[] {
  const joined: string[] = []
  for (let index = 0; index < symbols.length; index++) {
    const found = symbols[index] === left && symbols[index + 1] === right
    joined.push(found ? left + right : symbols[index]!)
    if (found) index++
  }
  return joined
}

function checkSize(vocabSize: number, least: number): void {
  if (!Number.isInteger(vocabSize) || vocabSize < least || vocabSize > 65_536) {
    throw new FluxError('FLUX_BAD_OPTION', `vocabSize is ${String(vocabSize)}; give an integer from ${least} to 65536`)
  }
}
