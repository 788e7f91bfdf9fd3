import { FluxError } from '../errors.js'

/**
 * Number format in which the noise is drawn. For a seed, ComfyUI and every float32 pipeline start from `float32`; the
 * official code and pipelines that run in bfloat16 start from `bfloat16`. The two are different noise, not rounded from
 * each other.
 */
export type NoiseVariant = 'float32' | 'bfloat16'

/**
 * Draws standard normal noise equal to `torch.randn` on the CPU for a seed: mt19937 and Box-Muller over blocks of 16
 * values.
 *
 * @param seed 0 to 2^53 - 1. Torch uses only the low 32 bits for mt19937, so seeds that differ by a multiple of 2^32
 *   give the same noise. A larger seed (ComfyUI draws up to 2^64 - 1) is reproduced by
 *   `Number(BigInt.asUintN(32, seed))`.
 * @param shape for example [16, h, w], or the number of values; at least 16 values, because torch draws fewer values
 *   differently
 * @param variant defaults to 'float32'
 * @returns values in row-major order; `bfloat16` values are exact bfloat16 numbers
 * @throws FluxError FLUX_BAD_OPTION for a seed, shape or variant out of range
 *
 * Source: pytorch/pytorch `aten/src/ATen/core/MT19937RNGEngine.h`, `aten/src/ATen/native/cpu/DistributionTemplates.h`
 * (`normal_fill`).
 * Box, Muller: A Note on the Generation of Random Normal Deviates, 1958.
 */
export function gaussianNoise(
  seed: number,
  shape: number | readonly number[],
  variant: NoiseVariant = 'float32',
): Float32Array {
  return gaussianNoiseStream(seed, shape, variant)()
}

/**
 * Returns a function that draws such noise again and again: the values of consecutive calls of `torch.randn` with one
 * generator. The first call returns `gaussianNoise`. Parameters and errors are those of `gaussianNoise`.
 */
export function gaussianNoiseStream(
  seed: number,
  shape: number | readonly number[],
  variant: NoiseVariant = 'float32',
): () => Float32Array {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new FluxError('FLUX_BAD_OPTION', `seed is ${seed}: give a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`)
  }
  const count = typeof shape === 'number' ? shape : shape.reduce((product, length) => product * length, 1)
  if (!Number.isSafeInteger(count) || count < 16) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `shape [${shape}] has ${count} values: give positive lengths with at least 16 values in all`,
    )
  }
  if (!Object.hasOwn(VARIANTS, variant)) {
    throw new FluxError('FLUX_BAD_OPTION', `variant is '${variant}': give one of ${Object.keys(VARIANTS).join(', ')}`)
  }
  const { uniform, boxMuller } = VARIANTS[variant]
  const random = mt19937(seed)
  return () => {
    const noise = new Float32Array(count)
    for (let i = 0; i < count; i++) noise[i] = uniform(random())
    for (let i = 0; i + 16 <= count; i += 16) boxMuller(noise, i)
    if (count % 16 !== 0) {
      // the last 16 values are drawn again and overlap the last whole block
      for (let i = count - 16; i < count; i++) noise[i] = uniform(random())
      boxMuller(noise, count - 16)
    }
    return noise
  }
}

const VARIANTS: Record<
  NoiseVariant,
  { uniform: (bits: number) => number; boxMuller: (block: Float32Array, offset: number) => void }
> = {
  float32: { uniform: (bits) => (bits & 0xffffff) / 0x1000000, boxMuller: boxMullerFloat32 },
  bfloat16: { uniform: (bits) => (bits & 0xff) / 0x100, boxMuller: boxMullerBfloat16 },
}

/** Turns 8 uniform numbers u1 and 8 uniform numbers u2 in [0, 1) into 8 cosine and 8 sine parts, in place. */
function boxMullerFloat32(block: Float32Array, offset: number): void {
  for (let j = offset; j < offset + 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - block[j]!))
    const theta = 2 * Math.PI * block[j + 8]!
    block[j] = radius * Math.cos(theta)
    block[j + 8] = radius * Math.sin(theta)
  }
}

/** Does the same with every intermediate value rounded to bfloat16, as torch's bfloat16 arithmetic does. */
function boxMullerBfloat16(block: Float32Array, offset: number): void {
  for (let j = offset; j < offset + 8; j++) {
    const radius = bfloat16(Math.sqrt(bfloat16(-2 * bfloat16(Math.log(1 - block[j]!)))))
    const theta = bfloat16(2 * Math.PI * block[j + 8]!)
    block[j] = bfloat16(radius * bfloat16(Math.cos(theta)))
    block[j + 8] = bfloat16(radius * bfloat16(Math.sin(theta)))
  }
}

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

/** Returns the nearest bfloat16 number, ties to even. */
function bfloat16(value: number): number {
  float[0] = value
  bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000
  return float[0]
}

/** Matsumoto, Nishimura: Mersenne Twister, 1998; 32 random bits per call */
function mt19937(seed: number): () => number {
  const N = 624
  const M = 397
  const state = new Uint32Array(N)
  state[0] = seed % 0x100000000
  for (let i = 1; i < N; i++) {
    const previous = state[i - 1]!
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i
  }
  const twist = (high: number, low: number): number => {
    const y = (high & 0x80000000) | (low & 0x7fffffff)
    return (y >>> 1) ^ (-(y & 1) & 0x9908b0df)
  }
  const reload = (): void => {
    for (let i = 0; i < N - M; i++) state[i] = state[i + M]! ^ twist(state[i]!, state[i + 1]!)
    for (let i = N - M; i < N - 1; i++) state[i] = state[i + M - N]! ^ twist(state[i]!, state[i + 1]!)
    state[N - 1] = state[M - 1]! ^ twist(state[N - 1]!, state[0]!)
  }
  let next = N
  return () => {
    if (next === N) {
      reload()
      next = 0
    }
    let y = state[next++]!
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }
}
