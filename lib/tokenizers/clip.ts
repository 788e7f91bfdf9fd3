import { Tokenizer } from '@huggingface/tokenizers'
import { FluxError } from '../errors.js'
import { BYTE_SYMBOLS } from './byte-symbols.js'
import { findTokenizerFiles, isRecord, readTokenizerFile, readTokenizerJson } from './files.js'
import type { WeightedText } from './prompt-weights.js'
import { checkText } from './text.js'

const BEGIN = '<|startoftext|>'
const END = '<|endoftext|>'
const WORD_END = '</w>'
const MAX_ENTRIES = 2 ** 20

export interface ClipVocabulary {
  /** symbol to id; `</w>` marks the end of a word */
  vocab: Record<string, number>
  /** pairs 'left right'; the first pair is joined first */
  merges: string[]
}

export interface ClipTokens {
  /** [maxLength]: begin, the text, end, then the end id up to the length */
  ids: Int32Array
  /** index of the first end id, which is the row of the encoder's output that is pooled */
  eos: number
  /** whether the text was longer than `maxLength` */
  truncated: boolean
}

/** A part of a prompt that the encoder sees at once. */
export interface ClipChunk {
  /** [maxLength]: begin, tokens, end, then the end id up to the length */
  ids: Int32Array
  /** [maxLength]: the tokens' weights; 1 for begin and end */
  weights: Float32Array
  /** index of the first end id */
  eos: number
}

/** A part with this many tokens may be cut in two; a shorter one goes into the next chunk as a whole. */
const LONG_PART = 8

/** Names of the files of a tokenizer, the preferred ones first. */
export const CLIP_TOKENIZER_FILES: readonly (readonly string[])[] = [['vocab.json', 'merges.txt'], ['tokenizer.json']]

/**
 * CLIP's byte-pair tokenizer (github.com/openai/CLIP, clip/simple_tokenizer.py). Text is prepared like in the fast
 * tokenizer of github.com/huggingface/transformers: composed (NFC), white space joined, lower case. It does not use
 * ftfy or resolve HTML entities, and neither do the reference pipelines for FLUX. `<|endoftext|>` in a text becomes the
 * end token, as it does there.
 */
export class ClipTokenizer {
  /** the number of rows that the encoder's table needs; every id is smaller */
  readonly size: number
  readonly #tokenizer: Tokenizer
  readonly #begin: number
  readonly #end: number

  /**
   * @param where the vocabulary's name in messages
   * @throws FluxError FLUX_BAD_FILE
   */
  constructor(vocabulary: ClipVocabulary, where = 'the CLIP vocabulary') {
    checkVocabulary(vocabulary, where)
    this.size = Object.values(vocabulary.vocab).reduce((size, id) => Math.max(size, id + 1), 0)
    const special = [BEGIN, END].map((content) => ({
      id: vocabulary.vocab[content],
      content,
      special: true,
      normalized: true,
    }))
    this.#begin = vocabulary.vocab[BEGIN]!
    this.#end = vocabulary.vocab[END]!
    this.#tokenizer = new Tokenizer(
      {
        added_tokens: special,
        normalizer: {
          type: 'Sequence',
          normalizers: [
            { type: 'NFC' },
            { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
            { type: 'Lowercase' },
          ],
        },
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            {
              type: 'Split',
              pattern: { Regex: "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+" },
              behavior: 'Removed',
              invert: true,
            },
            { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
          ],
        },
        post_processor: null,
        decoder: null,
        model: { type: 'BPE', vocab: vocabulary.vocab, merges: vocabulary.merges, end_of_word_suffix: WORD_END },
      },
      {},
    )
  }

  /**
   * @param source a folder with `vocab.json` and `merges.txt`, or with `tokenizer.json`; or the path of a
   *   `tokenizer.json`
   * @throws FluxError FLUX_NOT_FOUND, FLUX_BAD_FILE
   */
  static async load(source: string): Promise<ClipTokenizer> {
    const [path, mergesPath] = await findTokenizerFiles(source, CLIP_TOKENIZER_FILES)
    if (mergesPath) {
      const lines = (await readTokenizerFile(mergesPath)).toString('utf8').split(/\r?\n/)
      const merges = lines.filter((line, index) => line !== '' && !(index === 0 && line.startsWith('#version')))
      return new ClipTokenizer({ vocab: (await readTokenizerJson(path!)) as Record<string, number>, merges }, source)
    }
    const { model } = await readTokenizerJson(path!)
    if (!isRecord(model) || !isRecord(model.vocab) || !Array.isArray(model.merges)) {
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${path} has no model.vocab and model.merges; give the tokenizer.json of a CLIP text encoder`,
      )
    }
    const merges = model.merges.map((merge: unknown) => (Array.isArray(merge) ? merge.join(' ') : merge)) as string[]
    return new ClipTokenizer({ vocab: model.vocab as Record<string, number>, merges }, path)
  }

  /**
   * @param maxLength tokens, including begin and end; longer texts are cut off, but the end token is kept. @default 77
   * @throws FluxError FLUX_BAD_OPTION
   */
  encode(text: string, maxLength = 77): ClipTokens {
    const [{ ids, eos }, ...more] = this.encodeChunks([{ text, weight: 1 }], maxLength)
    return { ids, eos, truncated: more.length > 0 }
  }

  /**
   * Cuts a prompt of any length into chunks. A part of fewer than 8 tokens is not cut in two. Source:
   * comfyanonymous/ComfyUI, `comfy/sd1_clip.py` (`SDTokenizer`). FLUX sees the first chunk only: its transformer
   * receives no states of CLIP, and the pooled output is that of the first chunk.
   *
   * @param maxLength tokens of a chunk, including begin and end. @default 77
   * @returns one chunk or more
   * @throws FluxError FLUX_BAD_OPTION
   */
  encodeChunks(parts: readonly WeightedText[], maxLength = 77): [ClipChunk, ...ClipChunk[]] {
    const room = maxLength - 2
    const chunks: [id: number, weight: number][][] = [[]]
    for (const { text, weight } of parts) {
      checkText(text, maxLength, 2)
      let left: number[] = this.#tokenizer.encode(text).ids
      const divisible = left.length >= LONG_PART || left.length > room
      while (left.length > 0) {
        const chunk = chunks.at(-1)!
        const free = room - chunk.length
        const fitting = left.length <= free ? left.length : divisible ? free : 0
        chunk.push(...left.slice(0, fitting).map((id) => [id, weight] as [number, number]))
        left = left.slice(fitting)
        if (left.length > 0) chunks.push([])
      }
    }
    return chunks.map((tokens) => {
      const ids = new Int32Array(maxLength).fill(this.#end)
      const weights = new Float32Array(maxLength).fill(1)
      ids[0] = this.#begin
      tokens.forEach(([id, weight], i) => {
        ids[i + 1] = id
        weights[i + 1] = weight
      })
      return { ids, weights, eos: ids.indexOf(this.#end) }
    }) as [ClipChunk, ...ClipChunk[]]
  }
}

/** Every text must be encoded to known symbols, so the vocabulary must contain all bytes and all results of merges. */
function checkVocabulary({ vocab, merges }: ClipVocabulary, where: string): void {
  const bad = (what: string): never => {
    throw new FluxError('FLUX_BAD_FILE', `${where}: ${what}; fetch the tokenizer files of the CLIP text encoder again`)
  }
  const ids = Object.values(vocab)
  if (ids.length > MAX_ENTRIES || merges.length > MAX_ENTRIES) bad(`more than ${MAX_ENTRIES} symbols or merges`)
  const known = new Set<string>(Object.keys(vocab))
  const used = new Set<number>()
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= MAX_ENTRIES || used.has(id))
      bad(`the id ${String(id)} is no number of its own`)
    used.add(id)
  }
  for (const symbol of [BEGIN, END, ...BYTE_SYMBOLS, ...BYTE_SYMBOLS.map((byte) => byte + WORD_END)]) {
    if (!known.has(symbol)) bad(`the symbol ${JSON.stringify(symbol)} is missing`)
  }
  for (const merge of merges) {
    const [left, right, ...rest] = typeof merge === 'string' ? merge.split(' ') : []
    if (!left || !right || rest.length > 0 || !known.has(left) || !known.has(right) || !known.has(left + right)) {
      bad(`the merge ${JSON.stringify(merge)} does not fit the vocabulary`)
    }
  }
}
