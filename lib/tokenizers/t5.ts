import { FluxError } from '../errors.js'
import { openModelFile } from '../formats/open.js'
import { findTokenizerFiles, readTokenizerFile, readTokenizerJson } from './files.js'
import { Normalizer } from './normalizer.js'
import { readSentencePiece } from './sentencepiece.js'
import { t5VocabularyFromGguf, t5VocabularyFromJson, type T5Vocabulary } from './t5-vocabulary.js'
import type { WeightedText } from './prompt-weights.js'
import { checkText } from './text.js'
import { PIECE_TYPE, UnigramModel } from './unigram.js'

export interface T5Tokens {
  /** [maxLength]: the pieces, the end id, then the padding id */
  ids: Int32Array
  /** the number of ids that are not padding */
  length: number
  /** whether the text was longer than `maxLength` */
  truncated: boolean
}

/** Names of the files of a tokenizer, the preferred ones first. */
export const T5_TOKENIZER_FILES: readonly (readonly string[])[] = [['spiece.model'], ['tokenizer.json']]

/**
 * T5's tokenizer: a sentencepiece unigram model (github.com/google/sentencepiece). It returns the same ids as
 * sentencepiece. Control pieces in a text, such as `</s>`, are ordinary characters. User-defined pieces are found.
 */
export class T5Tokenizer {
  /** the number of rows that the encoder's table needs; every id is smaller */
  readonly size: number
  readonly #normalizer: Normalizer
  readonly #model: UnigramModel
  readonly #end: number
  readonly #pad: number

  /**
   * @param where the vocabulary's name in messages
   * @throws FluxError FLUX_BAD_FILE
   */
  constructor(vocabulary: T5Vocabulary, where = 'the T5 vocabulary') {
    const { tokens, types } = vocabulary
    this.size = tokens.length
    const special = (id: number, name: string): number => {
      if (id >= 0) return id
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${where}: the piece ${name} is missing; is it the tokenizer of a T5 encoder?`,
      )
    }
    const unknown = vocabulary.unknownId ?? Array.prototype.indexOf.call(types, PIECE_TYPE.unknown)
    this.#model = new UnigramModel(vocabulary, special(unknown, '<unk>'), where)
    this.#end = special(vocabulary.endId ?? tokens.indexOf('</s>'), '</s>')
    this.#pad = special(vocabulary.padId ?? tokens.indexOf('<pad>'), '<pad>')
    const userDefined = tokens.filter((_, id) => types[id] === PIECE_TYPE.userDefined)
    this.#normalizer = new Normalizer({ ...vocabulary, userDefined }, where)
  }

  /**
   * @param source the path of a `spiece.model`, a `tokenizer.json` or a text encoder's GGUF file (recognised by the
   *   suffix), or a folder with one of the first two
   * @throws FluxError FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED
   */
  static async load(source: string): Promise<T5Tokenizer> {
    const { vocabulary, where } = await readT5Vocabulary(source)
    return new T5Tokenizer(vocabulary, where)
  }

  /**
   * @param metadata metadata of a GGUF file with the keys `tokenizer.ggml.*`
   * @throws FluxError FLUX_BAD_FILE, FLUX_UNSUPPORTED
   */
  static fromGguf(metadata: ReadonlyMap<string, unknown>): T5Tokenizer {
    return new T5Tokenizer(t5VocabularyFromGguf(metadata), 'the metadata of the GGUF file')
  }

  /**
   * @param maxLength tokens, including the end token: 256 for FLUX.1 schnell, 512 for FLUX.1 dev; longer texts are cut
   *   off, but the end token is kept
   * @throws FluxError FLUX_BAD_OPTION
   */
  encode(text: string, maxLength: number): T5Tokens {
    const { weights: _, ...tokens } = this.encodeParts([{ text, weight: 1 }], maxLength)
    return tokens
  }

  /**
   * Encodes each part by itself, one after the other. Source: comfyanonymous/ComfyUI, `comfy/sd1_clip.py`
   * (`SDTokenizer`).
   *
   * @param maxLength as in {@link encode}
   * @returns the tokens, with `weights` [maxLength]: 1 for end and padding
   * @throws FluxError FLUX_BAD_OPTION
   */
  encodeParts(parts: readonly WeightedText[], maxLength: number): T5Tokens & { weights: Float32Array } {
    const pieces = parts.flatMap(({ text, weight }) => {
      checkText(text, maxLength, 1)
      return this.#model.encode(this.#normalizer.normalize(text)).map((id) => [id, weight] as const)
    })
    const length = Math.min(pieces.length + 1, maxLength)
    const ids = new Int32Array(maxLength).fill(this.#pad)
    const weights = new Float32Array(maxLength).fill(1)
    pieces.slice(0, length - 1).forEach(([id, weight], i) => {
      ids[i] = id
      weights[i] = weight
    })
    ids[length - 1] = this.#end
    return { ids, weights, length, truncated: pieces.length + 1 > maxLength }
  }
}

/**
 * Reads the contents of a T5 tokenizer.
 *
 * @param source as in {@link T5Tokenizer.load}
 * @throws FluxError FLUX_NOT_FOUND, FLUX_BAD_FILE, FLUX_UNSUPPORTED
 */
export async function readT5Vocabulary(source: string): Promise<{ vocabulary: T5Vocabulary; where: string }> {
  const [path] = (await findTokenizerFiles(source, T5_TOKENIZER_FILES)) as [string]
  if (/\.gguf$/i.test(path))
    return {
      vocabulary: t5VocabularyFromGguf((await openModelFile(path)).metadata),
      where: 'the metadata of the GGUF file',
    }
  const vocabulary = path.endsWith('.json')
    ? t5VocabularyFromJson(await readTokenizerJson(path), path)
    : readSentencePiece(await readTokenizerFile(path), path)
  return { vocabulary, where: path }
}
