import { FluxError } from '../errors.js'
import type { MetadataValue } from '../formats/model-file.js'
import { isRecord } from './files.js'
import { PIECE_TYPE, type Pieces } from './unigram.js'

/** The contents of a T5 tokenizer, independent of the file format. */
export interface T5Vocabulary extends Pieces {
  /**
   * ids of the special pieces, if the file contains them; otherwise they are found by their names `<pad>`, `</s>`,
   * `<unk>`
   */
  padId?: number | undefined
  endId?: number | undefined
  unknownId?: number | undefined
  /** sentencepiece's `precompiled_charsmap` */
  characterMap: Uint8Array | undefined
  addSpacePrefix: boolean
  removeExtraWhitespaces: boolean
}

const SPECIAL = ['<pad>', '</s>', '<unk>']

/**
 * Reads a Hugging Face `tokenizer.json` of the Unigram kind. Added tokens are treated as user-defined pieces, except
 * the special ones, which are never found in a text, as in sentencepiece.
 *
 * @throws FluxError FLUX_BAD_FILE, FLUX_UNSUPPORTED
 */
export function t5VocabularyFromJson(json: Record<string, unknown>, where: string): T5Vocabulary {
  const { model } = json
  if (!isRecord(model) || !Array.isArray(model.vocab)) {
    const type = isRecord(model) ? model.type : undefined
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${where}: model.type is ${JSON.stringify(type)}; give a T5 encoder's tokenizer.json (Unigram)`,
    )
  }
  const tokens: string[] = []
  const scores: number[] = []
  for (const entry of model.vocab as unknown[]) {
    if (!Array.isArray(entry) || typeof entry[0] !== 'string' || typeof entry[1] !== 'number') {
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${where}: entry ${tokens.length} of model.vocab is no piece with its score; fetch it again`,
      )
    }
    tokens.push(entry[0])
    scores.push(entry[1])
  }
  const addedTokens: unknown[] = Array.isArray(json.added_tokens) ? json.added_tokens : []
  const added = new Set(addedTokens.map((token) => isRecord(token) && token.content))
  const unknownId = optionalId(model.unk_id, tokens.length, where, 'model.unk_id')
  const types = tokens.map((token, id) => {
    if (id === unknownId || token === '<unk>') return PIECE_TYPE.unknown
    if (SPECIAL.includes(token)) return PIECE_TYPE.control
    return added.has(token) ? PIECE_TYPE.userDefined : PIECE_TYPE.normal
  })
  const { normalizer } = json
  const normalizers =
    isRecord(normalizer) && Array.isArray(normalizer.normalizers) ? normalizer.normalizers : [normalizer]
  const precompiled = normalizers.find((one) => isRecord(one) && one.type === 'Precompiled')
  const map: unknown = precompiled?.precompiled_charsmap ?? undefined
  if (map !== undefined && typeof map !== 'string') {
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${where}: the normalizer's precompiled_charsmap is not base64 text; fetch the file again`,
    )
  }
  const characterMap = map ? Buffer.from(map, 'base64') : undefined
  return { tokens, scores, types, unknownId, characterMap, addSpacePrefix: true, removeExtraWhitespaces: true }
}

/**
 * Reads the metadata of a GGUF text encoder, keys `tokenizer.ggml.*` (github.com/ggml-org/ggml, docs/gguf.md).
 *
 * @throws FluxError FLUX_BAD_FILE, FLUX_UNSUPPORTED
 */
export function t5VocabularyFromGguf(metadata: ReadonlyMap<string, unknown>): T5Vocabulary {
  const where = 'the metadata of the GGUF file'
  const get = (key: string): unknown => metadata.get(`tokenizer.ggml.${key}`)
  const bad = (key: string, what: string): never => {
    throw new FluxError(
      'FLUX_BAD_FILE',
      `${where}: tokenizer.ggml.${key} is not ${what}; give the T5 tokenizer as spiece.model`,
    )
  }
  const kind = get('model')
  if (kind !== 't5') {
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${where}: tokenizer.ggml.model is ${String(kind)}, not t5; give T5's spiece.model`,
    )
  }
  const numbers = (key: string): ArrayLike<number> => {
    const value = get(key)
    if (Array.isArray(value) || value instanceof Float32Array || value instanceof Float64Array || isIntegers(value))
      return value
    return bad(key, 'an array of numbers')
  }
  const flag = (key: string): boolean => {
    const value = get(key) ?? true
    return typeof value === 'boolean' ? value : bad(key, 'true or false')
  }
  const tokens = get('tokens')
  if (!Array.isArray(tokens)) return bad('tokens', 'an array of texts')
  const id = (key: string): number | undefined => optionalId(get(key), tokens.length, where, `tokenizer.ggml.${key}`)
  return {
    tokens,
    scores: numbers('scores'),
    types: numbers('token_type'),
    padId: id('padding_token_id'),
    endId: id('eos_token_id'),
    unknownId: id('unknown_token_id'),
    characterMap:
      get('precompiled_charsmap') === undefined ? undefined : Uint8Array.from(numbers('precompiled_charsmap')),
    addSpacePrefix: flag('add_space_prefix'),
    removeExtraWhitespaces: flag('remove_extra_whitespaces'),
  }
}

/** The metadata that {@link t5VocabularyFromGguf} reads, and the additional keys that other programs look for. */
export function t5VocabularyToGguf(vocabulary: T5Vocabulary): Record<string, MetadataValue> {
  const { tokens, scores, types, padId, endId, unknownId, characterMap, addSpacePrefix, removeExtraWhitespaces } =
    vocabulary
  const ids = { padding_token_id: padId, eos_token_id: endId, unknown_token_id: unknownId }
  const given = Object.entries(ids).filter((entry): entry is [string, number] => entry[1] !== undefined)
  return {
    'tokenizer.ggml.model': 't5',
    'tokenizer.ggml.tokens': [...tokens],
    'tokenizer.ggml.scores': Float32Array.from(scores),
    'tokenizer.ggml.token_type': Int32Array.from(types),
    ...Object.fromEntries(given.map(([key, id]) => [`tokenizer.ggml.${key}`, id])),
    ...(characterMap ? { 'tokenizer.ggml.precompiled_charsmap': characterMap } : {}),
    'tokenizer.ggml.add_space_prefix': addSpacePrefix,
    'tokenizer.ggml.remove_extra_whitespaces': removeExtraWhitespaces,
    'tokenizer.ggml.add_bos_token': false,
    'tokenizer.ggml.add_eos_token': true,
  }
}

function isIntegers(
  value: unknown,
): value is Uint8Array | Int8Array | Int16Array | Uint16Array | Int32Array | Uint32Array {
  return ArrayBuffer.isView(value) && /^(Uint|Int)(8|16|32)Array$/.test(value.constructor.name)
}

function optionalId(value: unknown, size: number, where: string, key: string): number | undefined {
  if (value === undefined || value === null) return undefined
  const id = typeof value === 'bigint' ? Number(value) : value
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < size) return id
  throw new FluxError(
    'FLUX_BAD_FILE',
    `${where}: ${key} is ${String(value)}, none of the ${size} pieces; fetch the T5 tokenizer again`,
  )
}
