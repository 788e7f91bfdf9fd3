import { gaussianNoise } from '../../sampling/noise.js'
import type { Distribution } from './distributions.js'
import { encodeValues, type Quantize } from './encode-values.js'
import { elementCount, TENSOR_TYPES, tensorBytes, type TensorType } from '../../formats/tensor-types.js'

/** The number of elements copied at a time from a pool: a multiple of every type's block size. */
const PIECE = 4096
const PIECES_PER_CHUNK = 2048
/** The number of elements in a pool: 4 million for large models, which is still in the caches when it is quantised. */
const POOL_ELEMENTS = { min: 2 ** 16, max: 2 ** 22 }

/**
 * Generates random tensor data as fast as a disk can write it. Normal numbers are drawn and quantised once for every
 * type and distribution. Tensors are filled with pieces from pseudo-random positions in those pools. The same seed
 * produces the same bytes.
 */
export class RandomData {
  readonly #seed: number
  readonly #quantize: Quantize | undefined
  readonly #normals: Float32Array
  readonly #pools = new Map<string, Promise<Uint8Array>>()
  #chunk = new Uint8Array(0)

  /** @param parameters the number of parameters of the whole model, which determines the size of the pools */
  constructor(seed: number, parameters: number, quantize?: Quantize) {
    this.#seed = seed
    this.#quantize = quantize
    const wanted = 2 ** Math.ceil(Math.log2(parameters / 16))
    this.#normals = gaussianNoise(seed, Math.min(Math.max(wanted, POOL_ELEMENTS.min), POOL_ELEMENTS.max))
  }

  /** The bytes of tensor number `index`. A piece is valid until the next one is requested. */
  async *tensor(
    index: number,
    shape: number[],
    type: TensorType,
    distribution: Distribution,
  ): AsyncGenerator<Uint8Array> {
    const seed = (Math.imul(index + 1, 0x9e3779b1) ^ this.#seed) >>> 0
    if (distribution.smooth) {
      yield encodeValues(
        smoothKernels(seed, shape, distribution.standardDeviation),
        type,
        shape.at(-1)!,
        this.#quantize,
      )
      return
    }
    const pool = await this.#pool(type, distribution)
    const { blockSize, blockBytes } = TENSOR_TYPES[type]
    const pieceBytes = (PIECE / blockSize) * blockBytes
    const places = (pool.length - pieceBytes) / blockBytes + 1
    const random = splitmix32(seed)
    const total = tensorBytes(type, shape)
    if (this.#chunk.length < PIECES_PER_CHUNK * pieceBytes) this.#chunk = new Uint8Array(PIECES_PER_CHUNK * pieceBytes)
    for (let done = 0; done < total; ) {
      const length = Math.min(PIECES_PER_CHUNK * pieceBytes, total - done)
      for (let at = 0; at < length; at += pieceBytes) {
        const start = (random() % places) * blockBytes
        this.#chunk.set(pool.subarray(start, start + Math.min(pieceBytes, length - at)), at)
      }
      yield this.#chunk.subarray(0, length)
      done += length
    }
  }

  #pool(type: TensorType, { mean, standardDeviation }: Distribution): Promise<Uint8Array> {
    const key = `${type} ${mean} ${standardDeviation}`
    let pool = this.#pools.get(key)
    if (!pool) {
      pool = encodeValues(
        this.#normals.map((value) => mean + standardDeviation * value),
        type,
        PIECE,
        this.#quantize,
      )
      this.#pools.set(key, pool)
    }
    return pool
  }
}

/** [out, in, 3, 3]: one normal number per output and input channel, times the binomial kernel. */
function smoothKernels(seed: number, shape: number[], standardDeviation: number): Float32Array {
  const values = new Float32Array(elementCount(shape))
  const gains = gaussianNoise(seed, Math.max(16, values.length / 9))
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / 3) % 3
    const binomial = (row === 1 ? 2 : 1) * (i % 3 === 1 ? 2 : 1)
    values[i] = standardDeviation * gains[Math.floor(i / 9)]! * (binomial / 16)
  }
  return values
}

/**
 * Generates unsigned 32-bit numbers. Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014,
 * with a 32-bit finaliser.
 */
function splitmix32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x9e3779b9) | 0
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
}
