import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FluxError } from '../../../lib/errors.js'
import { openModelFile } from '../../../lib/formats/open.js'
import { identify, networkOf } from '../../../lib/networks/network-file.js'
import { writeModelFile } from '../../../lib/formats/write-model-file.js'
import type { NetworkKind } from '../../../lib/networks/registry.js'
import { processorClock } from '../../support/clock.js'
import { goldenRecipe } from '../../support/golden.js'
import { bytesSource, modelFileOf } from '../../support/model-files.js'

const ROUNDS = 4000
const SEED = 20240801
const MAX_MILLISECONDS = 1000
const HUGE = [
  0n,
  1n,
  0xffn,
  0x7fffffffn,
  0xffffffffn,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
]
const KINDS: NetworkKind[] = ['flux', 't5', 'clip', 'autoencoder']

/** xorshift32 */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** `expect` takes longer than what is tested here, and a stack as long as the reading: it is asked only what fails. */
function thrown(action: () => unknown): unknown {
  try {
    return void action()
  } catch (error) {
    return error
  }
}

type Mutation = (bytes: Buffer, random: (below: number) => number, other: Buffer) => Buffer

/** Most of the header stands in the first bytes, so half of all mutations fall there. */
const place = (bytes: Buffer, random: (below: number) => number) =>
  random(random(2) ? bytes.length : Math.min(bytes.length, 400))

const MUTATIONS: Record<string, Mutation> = {
  'bit flips': (bytes, random) => {
    for (let n = 1 + random(8); n > 0; n--) bytes[place(bytes, random)]! ^= 1 << random(8)
    return bytes
  },
  truncations: (bytes, random) => bytes.subarray(0, place(bytes, random)),
  'huge fields': (bytes, random) => {
    const value = HUGE[random(HUGE.length)]!
    if (random(2)) bytes.writeBigUInt64LE(value, Math.min(place(bytes, random), bytes.length - 8))
    else bytes.writeUInt32LE(Number(value & 0xffffffffn), Math.min(place(bytes, random), bytes.length - 4))
    return bytes
  },
  'spliced files': (bytes, random, other) => {
    const at = place(bytes, random)
    return Buffer.concat([bytes.subarray(0, at), other.subarray(random(2) ? at : random(other.length))])
  },
  'repeated parts': (bytes, random) => {
    const from = place(bytes, random)
    const to = Math.min(bytes.length, from + 1 + random(200))
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from, to), bytes.subarray(to)])
  },
  'removed parts': (bytes, random) => {
    const from = place(bytes, random)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + 1 + random(64))])
  },
  'digits and brackets': (bytes, random) => {
    const text = ['9', '-', '{', '}', '[', ']', '"', ',', ':', '\\', 'e9', '1e999', 'null', '9007199254740993'][
      random(14)
    ]!
    const at = place(bytes, random)
    return Buffer.concat([bytes.subarray(0, at), Buffer.from(text), bytes.subarray(at + (random(2) ? text.length : 0))])
  },
}

describe('broken model files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ggflux-fuzz-'))
  const files: Record<string, Buffer> = {}
  const { stackTraceLimit } = Error
  afterAll(() => {
    Error.stackTraceLimit = stackTraceLimit
    rmSync(folder, { recursive: true })
  })
  beforeAll(async () => {
    Error.stackTraceLimit = 0
    const names = ['img_in.weight', 'double_blocks.0.img_attn.qkv.weight', 'txt_in.bias', 'x']
    const shapes = [[4, 32], [2, 3, 4], [7], [1]]
    const tensors = names.map((name, i) => ({
      name,
      shape: shapes[i]!,
      type: 'F16' as const,
      data: new Uint8Array(2 * shapes[i]!.reduce((a, b) => a * b)),
    }))
    const metadata = { 'general.architecture': 'flux', 'general.alignment': 32 }
    const arrays = { tokens: ['a', 'b', '▁c'], scores: Float32Array.of(1, 2), flags: [true], count: 2n ** 40n }
    await writeModelFile(join(folder, 'x.gguf'), tensors, { ...metadata, ...arrays })
    await writeModelFile(join(folder, 'x.safetensors'), tensors, metadata)
    for (const suffix of ['gguf', 'safetensors']) files[suffix] = readFileSync(join(folder, `x.${suffix}`))
  })

  const cases = ['gguf', 'safetensors'].flatMap((format) =>
    Object.keys(MUTATIONS).map((mutation) => [format, mutation] as const),
  )

  it.each(cases)('%s with %s: a result or a FluxError, soon', async (format, mutation) => {
    const random = randomNumbers(SEED)
    const other = files[format === 'gguf' ? 'safetensors' : 'gguf']!
    const counts = { read: 0, refused: 0 }
    let slowest = 0
    let beyond = 0
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = MUTATIONS[mutation]!(Buffer.from(files[format]!), random, random(2) ? other : files[format]!)
      const source = bytesSource(bytes)
      const measured = {
        ...source,
        read: (offset: number, length: number) => (
          (beyond = Math.max(beyond, offset + length - bytes.length)), source.read(offset, length)
        ),
      }
      const took = processorClock()
      try {
        const file = await openModelFile(measured)
        counts.read++
        for (const { offset, byteLength, shape, name } of file.tensors.values()) {
          const inside =
            offset >= 0 &&
            offset + byteLength <= bytes.length &&
            shape.every((size) => Number.isSafeInteger(size) && size >= 0)
          if (!inside) expect.fail(`round ${round}: tensor ${name} leaves the file`)
        }
        const kind = identify(file)?.kind ?? KINDS[round % KINDS.length]!
        if (!(thrown(() => networkOf(kind, file)) instanceof FluxError)) expect.fail(`round ${round}: no FluxError`)
      } catch (error) {
        counts.refused++
        if (!(error instanceof FluxError))
          expect(error, `round ${round} of ${mutation} in ${format}`).toBeInstanceOf(FluxError)
      }
      slowest = Math.max(slowest, took())
    }
    expect(counts.refused).toBeGreaterThan(0)
    expect(slowest).toBeLessThan(MAX_MILLISECONDS)
    expect(beyond, 'reads, and so allocations, stay inside the file').toBe(0)
  })

  it.each([
    ['flux', 'flux-dev-tiny'],
    ['t5', 't5-tiny'],
    ['clip', 'clip-tiny'],
    ['autoencoder', 'ae-tiny'],
  ] as const)('changed names and shapes of %s: a network or a FluxError', (kind, model) => {
    const random = randomNumbers(SEED)
    const { tensors } = goldenRecipe(model)
    let refused = 0
    for (let round = 0; round < 300; round++) {
      const changed = tensors.map(({ name, shape }) => ({ name, shape: [...shape] }))
      const tensor = changed[random(2) ? random(changed.length) : random(8)]!
      const change = random(4)
      if (change === 0) tensor.name = tensor.name.replace(/\d+/, String(random(1000)))
      else if (change === 1) tensor.shape[random(tensor.shape.length)] = [0, 1, 63, 2 ** 31, 2 ** 45][random(5)]!
      else if (change === 2) tensor.shape.pop()
      else tensor.name = changed[random(changed.length)]!.name
      try {
        const { tensors: native } = networkOf(kind, modelFileOf(changed))
        if (native.length !== tensors.length) expect(native).toHaveLength(tensors.length)
      } catch (error) {
        refused++
        if (!(error instanceof FluxError))
          expect(error, `round ${round}: ${tensor.name} [${tensor.shape.join()}]`).toBeInstanceOf(FluxError)
      }
    }
    expect(refused).toBeGreaterThan(100)
  })

  it('reads the files as they were', async () => {
    for (const bytes of Object.values(files)) expect((await openModelFile(bytesSource(bytes))).tensors.size).toBe(4)
  })
})
