import { FluxError } from '../errors.js'
import type { T5Vocabulary } from './t5-vocabulary.js'
import { PIECE_TYPE } from './unigram.js'

/** Wire types of protocol buffers (protobuf.dev/programming-guides/encoding). */
const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const
const UNIGRAM = 1

interface Field {
  number: number
  /** a varint's value up to 2^53, otherwise the field's bytes */
  value: number | Uint8Array
}

/**
 * Reads the parts of a sentencepiece model that a T5 tokenizer needs (sentencepiece_model.proto in
 * github.com/google/sentencepiece): the pieces and the text normalisation.
 *
 * @throws FluxError FLUX_BAD_FILE; FLUX_UNSUPPORTED for models of another kind
 */
export function readSentencePiece(bytes: Uint8Array, where: string): T5Vocabulary {
  const tokens: string[] = []
  const scores: number[] = []
  const types: number[] = []
  let characterMap: Uint8Array | undefined
  let addSpacePrefix = true
  let removeExtraWhitespaces = true
  const unsupported = (what: string): never => {
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${where}: ${what}, which T5's tokenizer never has; give the spiece.model of the T5 encoder`,
    )
  }
  for (const field of fieldsOf(bytes, where)) {
    if (field.number === 1) {
      let token = ''
      let score = 0
      let type: number = PIECE_TYPE.normal
      for (const { number, value } of fieldsOf(bytesOf(field, where), where)) {
        if (number === 1) token = Buffer.from(bytesOf({ number, value }, where)).toString('utf8')
        if (number === 2) score = floatOf({ number, value }, where)
        if (number === 3) type = integerOf({ number, value }, where)
      }
      tokens.push(token)
      scores.push(score)
      types.push(type)
    } else if (field.number === 2) {
      for (const trainer of fieldsOf(bytesOf(field, where), where)) {
        if (trainer.number === 3 && integerOf(trainer, where) !== UNIGRAM)
          unsupported('it is not a unigram model (model_type)')
        if (trainer.number === 24 && integerOf(trainer, where))
          unsupported('it puts white space behind words (treat_whitespace_as_suffix)')
        if (trainer.number === 35 && integerOf(trainer, where)) unsupported('it falls back to bytes (byte_fallback)')
      }
    } else if (field.number === 3) {
      for (const normalizer of fieldsOf(bytesOf(field, where), where)) {
        if (normalizer.number === 2) characterMap = bytesOf(normalizer, where)
        if (normalizer.number === 3) addSpacePrefix = integerOf(normalizer, where) !== 0
        if (normalizer.number === 4) removeExtraWhitespaces = integerOf(normalizer, where) !== 0
        if (normalizer.number === 5 && !integerOf(normalizer, where))
          unsupported('it keeps spaces as they are (escape_whitespaces)')
      }
    }
  }
  return {
    tokens,
    scores,
    types,
    characterMap: characterMap?.length ? characterMap : undefined,
    addSpacePrefix,
    removeExtraWhitespaces,
  }
}

function* fieldsOf(bytes: Uint8Array, where: string): Generator<Field> {
  let position = 0
  const take = (length: number): Uint8Array => {
    if (length > bytes.length - position)
      broken(where, `a field of ${length} bytes, and ${bytes.length - position} are left`)
    position += length
    return bytes.subarray(position - length, position)
  }
  const varint = (): number => {
    let value = 0
    for (let index = 0; index < 10; index++) {
      const byte = take(1)[0]!
      value += (byte & 0x7f) * 2 ** (7 * index)
      if (byte < 0x80) return value
    }
    return broken(where, 'a number of more than ten bytes')
  }
  while (position < bytes.length) {
    const tag = varint()
    const number = Math.floor(tag / 8)
    switch (tag % 8) {
      case WIRE.varint:
        yield { number, value: varint() }
        break
      case WIRE.fixed64:
        yield { number, value: take(8) }
        break
      case WIRE.bytes:
        yield { number, value: take(varint()) }
        break
      case WIRE.fixed32:
        yield { number, value: take(4) }
        break
      default:
        broken(where, `the unknown wire type ${tag % 8}`)
    }
  }
}

function bytesOf({ number, value }: Field, where: string): Uint8Array {
  return typeof value === 'number' ? broken(where, `a number in field ${number}, which holds bytes`) : value
}

function integerOf({ number, value }: Field, where: string): number {
  return typeof value === 'number' ? value : broken(where, `bytes in field ${number}, which holds a number`)
}

function floatOf(field: Field, where: string): number {
  const bytes = bytesOf(field, where)
  if (bytes.length !== 4) broken(where, `${bytes.length} bytes in field ${field.number}, which holds a float`)
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true)
}

function broken(where: string, what: string): never {
  throw new FluxError(
    'FLUX_BAD_FILE',
    `${where} is not a complete sentencepiece model: it has ${what}; fetch spiece.model again`,
  )
}
