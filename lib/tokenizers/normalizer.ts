import { FluxError } from '../errors.js'
import { MAX_TEXT_LENGTH } from './text.js'

const SPACE = '▁'
/** The search for user-defined pieces tries each piece at each character. */
const MAX_USER_DEFINED = 1024

/**
 * The character map of a sentencepiece model, `precompiled_charsmap`: the u32 length of the trie, the trie, and
 * replacements that end with NUL, all little-endian. The trie is a double array (Yata, Oono and others 2007) in the
 * format of darts-clone (github.com/s-yata/darts-clone). A unit holds its label in bits 0-7, whether a key ends there
 * in bit 8, and its children's offset in bits 10-30, shifted by 8 if bit 9 is set. A unit with bit 31 holds a value,
 * here the position of the replacement.
 */
class CharacterMap {
  readonly #units: Uint32Array
  readonly #replacements: Buffer

  constructor(map: Uint8Array, where: string) {
    const bad = (what: string): never => {
      throw new FluxError('FLUX_BAD_FILE', `${where}: the character map ${what}; fetch the T5 tokenizer again`)
    }
    const bytes = Buffer.from(map.buffer, map.byteOffset, map.byteLength)
    if (bytes.length < 4) bad(`has ${bytes.length} bytes`)
    const length = bytes.readUInt32LE(0)
    // 256 units make a block: the children of one unit are always in the same block.
    if (length === 0 || length % 1024 !== 0 || length + 4 >= bytes.length) {
      bad(`claims ${length} bytes of ${bytes.length - 4} for its trie`)
    }
    this.#units = Uint32Array.from({ length: length / 4 }, (_, index) => bytes.readUInt32LE(4 + 4 * index))
    this.#replacements = bytes.subarray(4 + length)
    if (this.#replacements.at(-1) !== 0) bad('does not end with a complete replacement')
    this.#units.forEach((unit, index) => {
      if (unit >>> 31) return
      const child = (index ^ offsetOf(unit)) >>> 0
      if (child >= this.#units.length) bad(`points outside its trie at unit ${index}`)
      if (unit & 0x100 && (this.#units[child]! & 0x7fffffff) >= this.#replacements.length) {
        bad(`points outside its replacements at unit ${index}`)
      }
    })
  }

  /** The length in bytes of the longest key at `begin`, or 0, and its replacement. */
  longest(bytes: Buffer, begin: number): { length: number; replacement: Buffer } {
    let node = offsetOf(this.#units[0]!)
    let length = 0
    let value = 0
    for (let end = begin; end < bytes.length; end++) {
      const byte = bytes[end]!
      node ^= byte
      const unit = this.#units[node]!
      // Bit 31 is part of the comparison, because a unit with a value has no label.
      if (byte === 0 || (unit & 0x800000ff) !== byte) break
      node ^= offsetOf(unit)
      if (unit & 0x100) {
        length = end + 1 - begin
        value = this.#units[node]! & 0x7fffffff
      }
    }
    return {
      length,
      replacement: this.#replacements.subarray(value, length === 0 ? value : this.#replacements.indexOf(0, value)),
    }
  }
}

function offsetOf(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0
}

export interface NormalizerOptions {
  /** `precompiled_charsmap`; without it, characters do not change */
  characterMap?: Uint8Array | undefined
  /** pieces that are not normalised and are always found */
  userDefined: readonly string[]
  addSpacePrefix: boolean
  removeExtraWhitespaces: boolean
}

/**
 * sentencepiece's text normalisation (github.com/google/sentencepiece, src/normalizer.cc). The package
 * `@huggingface/tokenizers` does not read the map but uses the JavaScript engine's NFKC instead. That splits emoji at
 * their zero-width joiners and changes with Unicode versions.
 */
export class Normalizer {
  readonly #options: NormalizerOptions
  readonly #map: CharacterMap | undefined
  readonly #userDefined: RegExp | undefined

  /** @throws FluxError FLUX_BAD_FILE */
  constructor(options: NormalizerOptions, where: string) {
    if (options.userDefined.length > MAX_USER_DEFINED) {
      const count = options.userDefined.length
      throw new FluxError(
        'FLUX_BAD_FILE',
        `${where}: ${count} user-defined pieces, more than ${MAX_USER_DEFINED}; is it T5's tokenizer?`,
      )
    }
    this.#options = options
    this.#map = options.characterMap && new CharacterMap(options.characterMap, where)
    if (options.userDefined.length > 0) {
      const longestFirst = options.userDefined.toSorted((a, b) => b.length - a.length)
      const escaped = longestFirst.map((piece) => piece.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
      this.#userDefined = new RegExp(`(${escaped.join('|')})`, 'u')
    }
  }

  /** @throws FluxError FLUX_BAD_OPTION when the map makes the text too long */
  normalize(text: string): string {
    const parts = this.#userDefined ? text.split(this.#userDefined) : [text]
    const mapped = parts.map((part, index) => (index % 2 === 1 ? part : this.#replace(part))).join('')
    const { addSpacePrefix, removeExtraWhitespaces } = this.#options
    const spaced = removeExtraWhitespaces ? mapped.replace(/ +/g, ' ').replace(/^ /, '') : mapped
    if (spaced === '') return ''
    const marked = (addSpacePrefix ? SPACE : '') + spaced.replaceAll(' ', SPACE)
    let end = marked.length
    while (removeExtraWhitespaces && marked[end - 1] === SPACE) end--
    return marked.slice(0, end)
  }

  #replace(text: string): string {
    if (!this.#map) return text
    const bytes = Buffer.from(text)
    const parts: Buffer[] = []
    let size = 0
    for (let begin = 0; begin < bytes.length; ) {
      const { length, replacement } = this.#map.longest(bytes, begin)
      const part = length > 0 ? replacement : bytes.subarray(begin, begin + characterLength(bytes[begin]!))
      parts.push(part)
      begin += length || part.length
      size += part.length
      if (size > 4 * MAX_TEXT_LENGTH) {
        throw new FluxError(
          'FLUX_BAD_OPTION',
          `the text grows beyond ${4 * MAX_TEXT_LENGTH} bytes when it is normalised; shorten it`,
        )
      }
    }
    return Buffer.concat(parts).toString('utf8')
  }
}

/** Bytes of the UTF-8 character that begins with `byte`. */
function characterLength(byte: number): number {
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
}
