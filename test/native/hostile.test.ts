import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openNetworkFile, type NetworkFile } from '../../lib/networks/network-file.js'
import type { T5Config } from '../../lib/networks/t5/layout.js'
import { nativeAddon, type NativeNetwork, type NativePiece, type NativeTensor } from '../../lib/native/addon.js'
import { LoadedNetwork } from '../../lib/networks/network.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer, T5Encoder } from '../../lib/nn.js'
import { devCase } from '../support/cases.js'
import { goldenWeights } from '../support/golden.js'

const PLENTY = 2 ** 34
const IDS = Int32Array.from({ length: 4 }, (_, i) => i)
const BUCKETS = new Int32Array(16)

let folder: string
let t5: NetworkFile<T5Config>

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-hostile-'))
  t5 = await openNetworkFile('t5', await goldenWeights('t5-tiny'))
})

afterAll(() => rmSync(folder, { recursive: true }))

/** T5 as the addon takes it, with something changed. */
function network({
  kind = 't5' as string,
  files = [t5.file.path],
  tensors = t5.tensors,
  config = {},
  device = 'CPU',
  threads = 2,
} = {}): NativeNetwork {
  return new (nativeAddon().Network)(
    kind as 't5',
    files,
    tensors,
    { ...t5.config, ...config },
    { device, threads, precision: 'auto' },
  )
}

const first = (change: Partial<NativeTensor>) =>
  t5.tensors.map((tensor, i) => (i === 0 ? { ...tensor, ...change } : tensor))

/** with another place of the first tensor */
const place = (change: Partial<NativePiece>) => first({ pieces: [{ ...t5.tensors[0]!.pieces[0]!, ...change }] })

async function loaded(): Promise<NativeNetwork> {
  const t5 = network()
  await t5.load(PLENTY)
  return t5
}

describe('a table or configuration that TypeScript would not send is refused', () => {
  test.each<[string, string, () => Parameters<typeof network>[0]]>([
    ['an offset past the end', 'FLUX_BAD_FILE', () => ({ tensors: place({ offset: t5.file.size }) })],
    [
      'an offset that makes the sum overflow',
      'FLUX_BAD_FILE',
      () => ({ tensors: place({ offset: Number.MAX_SAFE_INTEGER }) }),
    ],
    ['a place that is no number', 'FLUX_BAD_FILE', () => ({ tensors: place({ offset: NaN }) })],
    ['a scale past the end', 'FLUX_BAD_FILE', () => ({ tensors: place({ scale: t5.file.size - 3 }) })],
    ['a piece too small', 'FLUX_BAD_FILE', () => ({ tensors: place({ bytes: 4 }) })],
    ['float8 in blocks', 'FLUX_BAD_FILE', () => ({ tensors: first({ type: 12, float8: 'e4m3fn' }) })],
    ['no pieces', 'FLUX_BAD_FILE', () => ({ tensors: first({ pieces: [] }) })],
    [
      'pieces too many',
      'FLUX_BAD_FILE',
      () => ({ tensors: first({ pieces: [...t5.tensors[0]!.pieces, ...t5.tensors[0]!.pieces] }) }),
    ],
    [
      'pieces whose sum overflows',
      'FLUX_BAD_FILE',
      () => ({
        tensors: first({ pieces: Array.from({ length: 2000 }, () => ({ file: 0, offset: 0, bytes: 2 ** 53 - 1 })) }),
      }),
    ],
    ['no tensors', 'FLUX_BAD_FILE', () => ({ tensors: [] })],
    ['a missing tensor', 'FLUX_BAD_FILE', () => ({ tensors: t5.tensors.slice(1) })],
    ['a wrong shape', 'FLUX_BAD_FILE', () => ({ tensors: first({ shape: [512, 256] }) })],
    ['a shape of five dimensions', 'FLUX_BAD_FILE', () => ({ tensors: first({ shape: [256, 512, 1, 1, 1] }) })],
    ['no shape', 'FLUX_BAD_FILE', () => ({ tensors: first({ shape: [] }) })],
    ['a negative dimension', 'FLUX_BAD_FILE', () => ({ tensors: first({ shape: [-256, 512] }) })],
    ['a dimension of zero', 'FLUX_BAD_FILE', () => ({ tensors: first({ shape: [0, 512] }) })],
    [
      'dimensions whose product overflows',
      'FLUX_BAD_FILE',
      () => ({ tensors: first({ shape: [2 ** 30, 2 ** 30, 2 ** 30] }) }),
    ],
    ['an unknown type', 'FLUX_BAD_FILE', () => ({ tensors: first({ type: 999 }) })],
    ['a negative type', 'FLUX_BAD_FILE', () => ({ tensors: first({ type: -1 }) })],
    ['a type that ggml removed', 'FLUX_BAD_FILE', () => ({ tensors: first({ type: 4 }) })],
    ['a type of whole numbers', 'FLUX_UNSUPPORTED', () => ({ tensors: first({ type: 26 }) })],
    ['a file that is not in the list', 'FLUX_BAD_FILE', () => ({ tensors: place({ file: 1 }) })],
    ['a file that is not there', 'FLUX_NOT_FOUND', () => ({ files: [join(folder, 'none')] })],
    ['a folder for a file', 'FLUX_BAD_FILE', () => ({ files: [folder] })],
    ['no files', 'FLUX_BAD_FILE', () => ({ files: [] })],
    ['an unknown network', 'FLUX_BAD_OPTION', () => ({ kind: 'unet' })],
    ['another network', 'FLUX_BAD_OPTION', () => ({ kind: 'clip' })],
    ['NaN in the configuration', 'FLUX_BAD_OPTION', () => ({ config: { dModel: NaN } })],
    ['no heads', 'FLUX_BAD_OPTION', () => ({ config: { numHeads: 0 } })],
    ['half a head', 'FLUX_BAD_OPTION', () => ({ config: { numHeads: 0.5 } })],
    ['a huge dimension', 'FLUX_BAD_OPTION', () => ({ config: { dFf: 1e300 } })],
    ['more layers than tensors', 'FLUX_BAD_FILE', () => ({ config: { numLayers: 1000 } })],
    ['an unknown device', 'FLUX_DEVICE', () => ({ device: 'none' })],
  ])('%s: %s', async (_, code, change) => {
    await expect((async () => network(change()).load(PLENTY))()).rejects.toThrow(code)
  })

  test('arguments of other types throw', () => {
    const { Network } = nativeAddon() as unknown as { Network: new (...args: unknown[]) => NativeNetwork }
    for (const args of [
      [],
      ['t5'],
      ['t5', 1, 2, 3, 4],
      ['t5', [], [null], {}, {}],
      ['t5', [], [{ name: 'x', shape: 1 }], {}, {}],
      ['t5', [], [], null, null],
    ]) {
      expect(() => new Network(...args)).toThrow()
    }
  })

  test('a limit of memory is kept', async () => {
    // No kernel can use a tensor at an odd offset, so it is copied.
    const tensors = place({ offset: t5.tensors[0]!.pieces[0]!.offset + 1 })
    await expect(network({ tensors }).load(1)).rejects.toThrow('FLUX_OUT_OF_MEMORY')
    await expect(network({ tensors }).load(NaN)).rejects.toThrow('FLUX_OUT_OF_MEMORY')
  })

  test('adapters that do not fit, or name one tensor more often than there is room for, are refused', async () => {
    const live = await loaded()
    const [tensor] = t5.tensors.filter(({ name }) => name.endsWith('SelfAttention.q.weight'))
    const [columns, rows] = tensor!.shape as [number, number]
    const left = { in: columns, out: rows, down: tensor!.name }
    const whole = { weight: tensor!.name, kind: 'difference', left, firstRow: 0, rows, scale: 1 }
    const adapt = async (adapters: object[]) => live.adapt([t5.file.path], [tensor!], adapters as never, PLENTY)
    await adapt([whole])
    await expect(adapt([{ ...whole, weight: 'none' }])).rejects.toThrow('FLUX_BAD_FILE')
    await expect(adapt([{ ...whole, kind: 'none' }])).rejects.toThrow('FLUX_BAD_FILE')
    await expect(adapt([{ ...whole, firstRow: 1 }])).rejects.toThrow('FLUX_BAD_FILE')
    await expect(adapt([{ ...whole, left: { ...left, down: 'none' } }])).rejects.toThrow('FLUX_BAD_FILE')
    await expect(adapt(Array.from({ length: 100 }, () => whole))).rejects.toThrow('FLUX_BAD_FILE')
    for (const wrong of [NaN, -1, 1e300])
      await expect(adapt([{ ...whole, left: { ...left, in: wrong } }])).rejects.toThrow('FLUX_BAD_FILE')
    await adapt([])
    await live.close()
  })

  test('more threads than there can be are cut to 512, none to one', async () => {
    for (const threads of [0, -5, 1e9, NaN]) {
      const t5 = network({ threads })
      await t5.load(PLENTY)
      await t5.close()
      expect(t5.status().weights).toBe(0)
    }
  })
})

describe('a call that TypeScript would not make is refused, and the network goes on', () => {
  let t5: NativeNetwork
  let expected: Float32Array[]
  beforeAll(async () => {
    t5 = await loaded()
    expected = (await t5.run('encode', [4], [IDS, BUCKETS], PLENTY)).outputs
  })
  afterAll(() => t5?.close())

  test.each<[string, string, Parameters<NativeNetwork['run']>]>([
    ['an unknown mode', 'FLUX_BAD_OPTION', ['decode', [4], [IDS, BUCKETS], PLENTY]],
    ['no shape', 'FLUX_BAD_SHAPE', ['encode', [], [IDS, BUCKETS], PLENTY]],
    ['a shape of zero', 'FLUX_BAD_SHAPE', ['encode', [0], [IDS, BUCKETS], PLENTY]],
    ['a negative shape', 'FLUX_BAD_SHAPE', ['encode', [-4], [IDS, BUCKETS], PLENTY]],
    ['a huge shape', 'FLUX_BAD_SHAPE', ['encode', [2 ** 52], [IDS, BUCKETS], PLENTY]],
    ['a shape that is no number', 'FLUX_BAD_SHAPE', ['encode', [NaN], [IDS, BUCKETS], PLENTY]],
    ['no inputs', 'FLUX_BAD_SHAPE', ['encode', [4], [], PLENTY]],
    ['too many inputs', 'FLUX_BAD_SHAPE', ['encode', [4], [IDS, BUCKETS, IDS], PLENTY]],
    ['an input that is too short', 'FLUX_BAD_SHAPE', ['encode', [4], [IDS.slice(1), BUCKETS], PLENTY]],
    ['an empty input', 'FLUX_BAD_SHAPE', ['encode', [4], [new Int32Array(), BUCKETS], PLENTY]],
    ['floats for indices', 'FLUX_BAD_SHAPE', ['encode', [4], [new Float32Array(4), BUCKETS], PLENTY]],
    ['an index below', 'FLUX_BAD_SHAPE', ['encode', [4], [Int32Array.of(0, -1, 0, 0), BUCKETS], PLENTY]],
    ['an index above', 'FLUX_BAD_SHAPE', ['encode', [4], [Int32Array.of(0, 512, 0, 0), BUCKETS], PLENTY]],
    ['a bucket above', 'FLUX_BAD_SHAPE', ['encode', [4], [IDS, new Int32Array(16).fill(32)], PLENTY]],
    [
      'bytes for indices',
      'FLUX_BAD_OPTION',
      ['encode', [4], [new Uint8Array(4) as unknown as Int32Array, BUCKETS], PLENTY],
    ],
    [
      'less memory than needed',
      'FLUX_OUT_OF_MEMORY',
      ['encode', [4096], [new Int32Array(4096), new Int32Array(4096 ** 2)], 2 ** 20],
    ],
  ])('%s: %s', async (_, code, args) => {
    await expect((async () => t5.run(...args))()).rejects.toThrow(code)
    expect((await t5.run('encode', [4], [IDS, BUCKETS], PLENTY)).outputs).toEqual(expected)
  })

  test('measuring, too, is refused what is impossible, and what is loaded', async () => {
    const other = network()
    await expect((async () => other.measure('encode', [-4]))()).rejects.toThrow('FLUX_BAD_SHAPE')
    await expect((async () => other.measure('decode', [4]))()).rejects.toThrow('FLUX_BAD_OPTION')
    expect(await other.measure('encode', [4])).toBeGreaterThan(0)
    await other.close()
    expect(() => t5.measure('encode', [4])).toThrow('FLUX_BUSY')
  })

  test('a second call meanwhile is busy, a second load is refused, a call before the load as well', async () => {
    const call = t5.run('encode', [4], [IDS, BUCKETS], PLENTY)
    expect(() => t5.run('encode', [4], [IDS, BUCKETS], PLENTY)).toThrow('FLUX_BUSY')
    expect((await call).outputs).toEqual(expected)
    expect(() => t5.load(PLENTY)).toThrow('FLUX_BUSY')
    const other = network()
    await expect(other.run('encode', [4], [IDS, BUCKETS], PLENTY)).rejects.toThrow('FLUX_CLOSED')
    await other.close()
  })

  test('a result that finds no memory rejects the call', async () => {
    const real = globalThis.Float32Array
    const error = new RangeError('Array buffer allocation failed')
    globalThis.Float32Array = class {
      constructor() {
        throw error
      }
    } as never
    try {
      await expect(t5.run('encode', [4], [IDS, BUCKETS], PLENTY)).rejects.toBe(error)
    } finally {
      globalThis.Float32Array = real
    }
    expect((await t5.run('encode', [4], [IDS, BUCKETS], PLENTY)).outputs).toEqual(expected)
  })

  test('after close() every call is refused', async () => {
    const other = await loaded()
    await Promise.all([other.close(), other.close()])
    other.cancel()
    expect(() => other.run('encode', [4], [IDS, BUCKETS], PLENTY)).toThrow('FLUX_CLOSED')
    expect(other.status()).toMatchObject({ weights: 0, mapped: 0, compute: 0 })
  })
})

describe('the public classes', () => {
  test.each([
    ['a text encoder for another', T5Encoder, 'clip-tiny', 'FLUX_BAD_FILE'],
    ['an autoencoder for a text encoder', ClipTextEncoder, 'ae-tiny', 'FLUX_BAD_FILE'],
    ['a transformer for an autoencoder', Autoencoder, 'flux-dev-tiny', 'FLUX_BAD_FILE'],
  ] as const)('%s is refused', async (_, Network, model, code) => {
    const path = await goldenWeights(model)
    await expect(Network.load(path)).rejects.toMatchObject({ code, message: expect.stringContaining(path) })
  })

  test.each<[string, object, string]>([
    ['a NaN for a time step', { timestep: NaN }, 'FLUX_BAD_OPTION'],
    ['a time step of 500', { timestep: 500 }, 'FLUX_BAD_OPTION'],
    ['an array of doubles', { img: new Float64Array(256 * 64) }, 'FLUX_BAD_OPTION'],
    ['a plain array', { txt: [1, 2, 3] }, 'FLUX_BAD_OPTION'],
    ['nothing for an array', { vec: undefined }, 'FLUX_BAD_OPTION'],
    ['an empty array', { img: new Float32Array() }, 'FLUX_BAD_SHAPE'],
    ['half a token', { txt: new Float32Array(100) }, 'FLUX_BAD_SHAPE'],
    ['ids of another length', { imgIds: new Float32Array(3) }, 'FLUX_BAD_SHAPE'],
    ['ids that are not whole', { imgIds: new Float32Array(3 * 256).fill(0.5) }, 'FLUX_BAD_OPTION'],
    ['negative ids', { txtIds: new Float32Array(3 * 32).fill(-1) }, 'FLUX_BAD_OPTION'],
    ['no guidance', { guidance: undefined }, 'FLUX_BAD_OPTION'],
    ['an infinite guidance', { guidance: Infinity }, 'FLUX_BAD_OPTION'],
  ])('predict with %s is refused', async (_, change, code) => {
    await using flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'))
    await expect(flux.predict({ ...devCase('b'), ...change })).rejects.toMatchObject({ name: 'FluxError', code })
  })

  test('guidance is refused by a model that has none', async () => {
    await using flux = await FluxTransformer.load(await goldenWeights('flux-schnell-tiny'))
    await expect(flux.predict(devCase('b'))).rejects.toMatchObject({ name: 'FluxError', code: 'FLUX_BAD_OPTION' })
  })

  test('tokens and pictures out of range are refused', async () => {
    await using t5 = await T5Encoder.load(await goldenWeights('t5-tiny'))
    await using vae = await Autoencoder.load(await goldenWeights('ae-tiny'))
    const calls: [Promise<unknown>, string][] = [
      [t5.encode(Int32Array.of(512)), 'FLUX_BAD_SHAPE'],
      [t5.encode(Int32Array.of(-1)), 'FLUX_BAD_SHAPE'],
      [t5.encode(new Int32Array()), 'FLUX_BAD_SHAPE'],
      [t5.encode([1] as unknown as Int32Array), 'FLUX_BAD_OPTION'],
      [vae.decode(new Float32Array(16), 0, 1), 'FLUX_BAD_OPTION'],
      [vae.decode(new Float32Array(16), 1, 2), 'FLUX_BAD_SHAPE'],
      [vae.encode(new Float32Array(3 * 81), 9, 9), 'FLUX_BAD_OPTION'],
    ]
    for (const [call, code] of calls) await expect(call).rejects.toMatchObject({ name: 'FluxError', code })
  })

  test('a file that is cut off or deleted after its header was checked is refused', async () => {
    const path = join(folder, 'vanishing.safetensors')
    copyFileSync(t5.file.path, path)
    const file = await openNetworkFile('t5', path)
    truncateSync(path, file.file.size - 1)
    await expect(LoadedNetwork.start(file, {})).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining(path),
    })
    rmSync(path)
    await expect(LoadedNetwork.start(file, {})).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringContaining(path),
    })
  })
})

test('some thousand random tables and calls end in a result or an error, never in a crash', {
  timeout: 300_000,
}, async () => {
  const models = await Promise.all(
    (
      ['flux-schnell-tiny', 't5-tiny', 'clip-tiny', 'ae-tiny', 'siglip-tiny', 'clip-vision-tiny', 'redux-tiny'] as const
    ).map(goldenWeights),
  )
  const child = spawn(process.execPath, [
    fileURLToPath(new URL('children/fuzz.mjs', import.meta.url)),
    '1',
    '3000',
    ...models,
  ])
  let output = ''
  child.stdout.on('data', (data) => {
    output += data
  })
  child.stderr.on('data', (data) => {
    output += data
  })
  const [code, signal] = await once(child, 'close')
  console.log(output.trim())
  expect({ code, signal }, output).toEqual({ code: 0, signal: null })
  // Loads and calls that succeed show that the fuzz reaches past the first check.
  const [, refused, loads, runs] = /(\d+) refused, (\d+) loaded, (\d+) evaluated/.exec(output)!.map(Number)
  expect(Math.min(refused!, loads!, runs!)).toBeGreaterThan(100)
})
