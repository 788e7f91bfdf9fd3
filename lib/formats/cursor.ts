import { FluxError } from '../errors.js'
import type { Source } from './byte-source.js'

const PIECE = 64 * 1024

/**
 * Reads consecutive little-endian fields in pieces. `need(n)` makes the next n bytes available and the other methods
 * read them. Each piece of a real file is read asynchronously, so the event loop can run between pieces.
 */
export class Cursor {
  readonly source: Source
  /** the end of the source, or an earlier position that must not be read past */
  readonly limit: number
  #piece: Buffer = Buffer.alloc(0)
  #pieceOffset = 0
  #position = 0

  constructor(source: Source, limit: number) {
    this.source = source
    this.limit = Math.min(limit, source.size)
  }

  /** bytes since the beginning of the source */
  get offset(): number {
    return this.#pieceOffset + this.#position
  }

  /** bytes up to the limit */
  get remaining(): number {
    return this.limit - this.offset
  }

  fail(message: string): never {
    throw new FluxError('FLUX_BAD_FILE', `${this.source.path}: ${message}`)
  }

  /** @param what the field's name, for the message if the file ends before it */
  async need(length: number, what: string): Promise<void> {
    if (this.#piece.length - this.#position >= length) return
    const { offset, remaining } = this
    if (length > remaining) {
      const end =
        this.limit < this.source.size
          ? `the ${this.limit} bytes that a header may have`
          : `the file's end at byte ${this.limit}`
      this.fail(
        `${what} at byte ${offset} needs ${length} bytes and passes ${end}. The file is damaged or incomplete: download it again`,
      )
    }
    this.#piece = await this.source.read(offset, Math.min(Math.max(length, PIECE), remaining))
    this.#pieceOffset = offset
    this.#position = 0
  }

  has(length: number): boolean {
    return this.#piece.length - this.#position >= length
  }

  /** Returns the next bytes. They stay valid as long as the caller needs them. */
  take(length: number): Buffer {
    return this.#piece.subarray(this.#position, (this.#position += length))
  }

  u8 = (): number => this.#piece.readUInt8(this.#advance(1))
  i8 = (): number => this.#piece.readInt8(this.#advance(1))
  u16 = (): number => this.#piece.readUInt16LE(this.#advance(2))
  i16 = (): number => this.#piece.readInt16LE(this.#advance(2))
  u32 = (): number => this.#piece.readUInt32LE(this.#advance(4))
  i32 = (): number => this.#piece.readInt32LE(this.#advance(4))
  f32 = (): number => this.#piece.readFloatLE(this.#advance(4))
  f64 = (): number => this.#piece.readDoubleLE(this.#advance(8))
  u64 = (): bigint => this.#piece.readBigUInt64LE(this.#advance(8))
  i64 = (): bigint => this.#piece.readBigInt64LE(this.#advance(8))

  #advance(length: number): number {
    const position = this.#position
    this.#position += length
    return position
  }
}
