import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { convert, T5Tokenizer } from '../../lib/index.js'
import { openModelFile } from '../../lib/formats/open.js'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { withSource } from '../../lib/formats/byte-source.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { nativeQuantize as quantize } from '../../lib/native/addon.js'
import type { NetworkKind } from '../../lib/networks/registry.js'
import { convertWeights, llamaT5Name } from '../support/convert.js'
import { diffusersAutoencoder, diffusersFlux, openClip, rewrite, write } from '../support/dialects.js'
import { toFloat8 } from '../support/float8.js'
import { goldenWeights, type GoldenModel } from '../support/golden.js'
import { readTensors } from '../support/safetensors.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-convert-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Type and bytes of every tensor. */
async function contents(path: string): Promise<Map<string, [type: string, shape: number[], bytes: Buffer]>> {
  const { tensors } = await openModelFile(path)
  return withSource(path, async (source) => {
    const all = new Map<string, [string, number[], Buffer]>()
    for (const { name, type, shape, offset, byteLength } of tensors.values())
      all.set(name, [type, shape, await source.read(offset, byteLength)])
    return all
  })
}

/** Not by `toEqual`, which compares millions of bytes one by one. */
async function expectSame(path: string, reference: string): Promise<void> {
  const [actual, expected] = [await contents(path), await contents(reference)]
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort())
  for (const [name, [type, shape, bytes]] of expected) {
    expect(actual.get(name)!.slice(0, 2), name).toEqual([type, shape])
    expect(actual.get(name)![2].equals(bytes), name).toBe(true)
  }
}

const MODELS: [GoldenModel, NetworkKind][] = [
  ['flux-dev-tiny', 'flux'],
  ['t5-tiny', 't5'],
  ['clip-tiny', 'clip'],
  ['ae-tiny', 'autoencoder'],
]

// The other way to the same file decodes nothing natively and reads by itself: test/support/convert.ts.
describe.each(MODELS)('%s', (model) => {
  test.each(['F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_K'] as const)(
    'to %s: the bytes that another converter writes',
    async (type) => {
      const weights = await goldenWeights(model)
      const [ours, others] = [join(folder, 'ours.gguf'), join(folder, 'others.gguf')]
      const result = await convert(weights, ours, { type })
      await convertWeights(weights, others, { type, quantize, ...(model === 't5-tiny' ? { naming: llamaT5Name } : {}) })
      await expectSame(ours, others)
      expect(Object.values(result.types).reduce((sum, count) => sum + count, 0)).toBe((await contents(ours)).size)
    },
  )

  test('there and back: F32 stays bit for bit, in both formats', async () => {
    const weights = await goldenWeights(model)
    await convert(weights, join(folder, 'there.gguf'), { type: 'F32' })
    await convert(join(folder, 'there.gguf'), join(folder, 'back.safetensors'), { type: 'F32' })
    await expectSame(join(folder, 'back.safetensors'), weights)
  })
})

describe('other layouts become the official one, bit for bit', () => {
  const same = async (input: string, model: GoldenModel) => {
    const path = join(folder, 'official.safetensors')
    await convert(input, path, { type: 'F32' })
    await expectSame(path, await goldenWeights(model))
  }

  test("a transformer in diffusers' names", async () => {
    await same(
      await rewrite(await goldenWeights('flux-dev-tiny'), join(folder, 'diffusers.safetensors'), diffusersFlux),
      'flux-dev-tiny',
    )
  })
  test("an autoencoder in diffusers' names", async () => {
    await same(
      await rewrite(await goldenWeights('ae-tiny'), join(folder, 'vae.safetensors'), diffusersAutoencoder),
      'ae-tiny',
    )
  })
  test("CLIP in OpenCLIP's names", async () => {
    await same(
      await write(join(folder, 'clip.safetensors'), openClip(readTensors(await goldenWeights('clip-tiny')))),
      'clip-tiny',
    )
  })
  test('a split transformer', async () => {
    mkdirSync(join(folder, 'split'))
    const names = [...readTensors(await goldenWeights('flux-dev-tiny')).keys()]
    for (const i of [0, 1]) {
      const path = join(folder, 'split', `model-0000${i + 1}-of-00002.safetensors`)
      await rewrite(
        await goldenWeights('flux-dev-tiny'),
        path,
        (name, tensor) => [[name, tensor]],
        (name) => names.indexOf(name) % 2 === i,
      )
    }
    await same(join(folder, 'split', 'model-00002-of-00002.safetensors'), 'flux-dev-tiny')
  })
  test('one network of a checkpoint', async () => {
    const both = new Map([
      ...[...readTensors(await goldenWeights('flux-dev-tiny'))].map(
        ([name, tensor]) => [`model.diffusion_model.${name}`, tensor] as const,
      ),
      ...[...readTensors(await goldenWeights('ae-tiny'))].map(([name, tensor]) => [`vae.${name}`, tensor] as const),
    ])
    const path = await write(join(folder, 'checkpoint.safetensors'), both)
    await same(path, 'flux-dev-tiny')
    await convert(path, join(folder, 'its-vae.safetensors'), { type: 'F32', network: 'vae' })
    await expectSame(join(folder, 'its-vae.safetensors'), await goldenWeights('ae-tiny'))
  })
  test('float8', async () => {
    const [coarse, exact]: TensorSource[][] = [[], []]
    for (const [name, { shape, data }] of readTensors(await goldenWeights('flux-dev-tiny'))) {
      const { codes, decoded } = toFloat8('F8_E4M3', data as Float32Array)
      coarse!.push({ name, shape, type: 'F8_E4M3', data: codes })
      exact!.push({ name, shape, type: 'F32', data: new Uint8Array(decoded.buffer) })
    }
    const [input, expected, output] = ['f8', 'f8-exact', 'f8-official'].map((name) =>
      join(folder, `${name}.safetensors`),
    ) as [string, string, string]
    await writeModelFile(input, coarse!)
    await writeModelFile(expected, exact!)
    await convert(input, output, { type: 'F32' })
    await expectSame(output, expected)
  })
})

test('types of single tensors', async () => {
  const path = join(folder, 'mixed.gguf')
  await convert(await goldenWeights('flux-dev-tiny'), path, {
    type: 'Q8_0',
    tensorTypes: [
      [/img_mlp\.0\.weight$/, 'Q4_0'],
      ['img_mlp', 'F16'],
    ],
  })
  const all = await contents(path)
  expect(all.get('double_blocks.0.img_mlp.0.weight')![0]).toBe('Q4_0')
  expect(all.get('double_blocks.0.img_mlp.2.weight')![0]).toBe('F16')
  expect(all.get('double_blocks.0.txt_mlp.2.weight')![0]).toBe('Q8_0')
  expect((await openNetworkFile('flux', path)).tensors.length).toBe(all.size)
})

test('a pattern decides on matrices and embeddings, and leaves the biases beside them alone', async () => {
  const path = join(folder, 'layers.gguf')
  await convert(await goldenWeights('flux-dev-tiny'), path, {
    type: 'Q4_0',
    tensorTypes: [
      ['img_mlp', 'Q8_0'],
      ['img_mod', 'F16'],
    ],
  })
  const all = await contents(path)
  const typeOf = (name: string) => all.get(`double_blocks.0.${name}`)![0]
  expect(['img_mlp.0.weight', 'img_mod.lin.weight', 'txt_mlp.0.weight'].map(typeOf)).toEqual(['Q8_0', 'F16', 'Q4_0'])
  expect(['img_mlp.0.bias', 'img_mlp.2.bias', 'img_mod.lin.bias'].map(typeOf)).toEqual(['F32', 'F32', 'F32'])
  expect((await openNetworkFile('flux', path)).tensors.length).toBe(all.size)
})

test('the flags of a regular expression do not change what it finds', async () => {
  const input = await goldenWeights('flux-dev-tiny')
  const types = async (pattern: RegExp) =>
    (await convert(input, join(folder, 'flags.gguf'), { type: 'Q8_0', tensorTypes: [[pattern, 'F16']] })).types
  const plain = await types(/blocks/)
  expect(await types(/blocks/g)).toEqual(plain)
  expect(await types(/double_blocks|single_blocks/gy)).toEqual(plain)
})

test("T5's tokenizer and what a GGUF file says of itself come along", async () => {
  const [first, second] = [join(folder, 't5.gguf'), join(folder, 't5-q8.gguf')]
  await synthesize({ architecture: 't5-tiny', path: first })
  const result = await convert(first, second, { type: 'Q8_0' })
  expect(result.tokenizer).toBe(true)
  const [before, after] = [await T5Tokenizer.load(first), await T5Tokenizer.load(second)]
  expect(after.encode('a red fox in the snow', 32)).toEqual(before.encode('a red fox in the snow', 32))
  const { metadata } = await openModelFile(second)
  expect(metadata.get('general.architecture')).toBe('t5encoder')
  expect(metadata.get('general.name')).toBe('t5-tiny with random weights')
  expect(metadata.get('general.file_type')).toBe(7)
  const alone = await convert(await goldenWeights('t5-tiny'), join(folder, 'alone.gguf'), { type: 'F16' })
  expect(alone.tokenizer).toBe(false)
  const given = await convert(await goldenWeights('t5-tiny'), join(folder, 'given.gguf'), {
    type: 'F16',
    tokenizer: first,
  })
  expect(given.tokenizer).toBe(true)
})

describe('is refused, and leaves nothing behind', () => {
  const refused = async (code: string, message: RegExp, work: () => Promise<unknown>) => {
    const before = readdirSync(folder)
    await expect(work()).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string })
    expect(readdirSync(folder)).toEqual(before)
  }
  const to = (name: string) => join(folder, name)

  test('wrong options', async () => {
    const input = await goldenWeights('flux-dev-tiny')
    await refused('FLUX_BAD_OPTION', /type is 'Q9'/, () => convert(input, to('x.gguf'), { type: 'Q9' as never }))
    await refused('FLUX_BAD_OPTION', /safetensors cannot hold Q8_0/, () =>
      convert(input, to('x.safetensors'), { type: 'Q8_0' }),
    )
    await refused('FLUX_BAD_OPTION', /ends with .gguf or .safetensors/, () =>
      convert(input, to('x.bin'), { type: 'F16' }),
    )
    await refused('FLUX_BAD_OPTION', /is the input as well/, () => convert(input, input, { type: 'F16' }))
    await refused('FLUX_BAD_OPTION', /there is no kind/, () =>
      convert(input, to('x.gguf'), { type: 'F16', kind: 1 } as never),
    )
    await refused('FLUX_BAD_OPTION', /network is 'unet'/, () =>
      convert(input, to('x.gguf'), { type: 'F16', network: 'unet' as never }),
    )
    await refused('FLUX_BAD_OPTION', /not whole blocks of 256 for Q4_K/, () =>
      convert(input, to('x.gguf'), { type: 'F16', tensorTypes: [['img_in.weight', 'Q4_K']] }),
    )
    const typed = (tensorTypes: unknown) => () => convert(input, to('x.gguf'), { type: 'F16', tensorTypes } as never)
    await refused(
      'FLUX_BAD_OPTION',
      /pattern of tensorTypes is 'img_mpl': give one that is found/,
      typed([['img_mpl', 'Q8_0']]),
    )
    await refused('FLUX_BAD_OPTION', /pattern of tensorTypes is 'img_mlp.0.bias'/, typed([['img_mlp.0.bias', 'F16']]))
    await refused('FLUX_BAD_OPTION', /pattern of tensorTypes is undefined/, typed([[undefined, 'Q8_0']]))
    await refused('FLUX_NOT_FOUND', /no such file/, () => convert(to('none.gguf'), to('x.gguf'), { type: 'F16' }))
    await refused('FLUX_BAD_FILE', /seems to be a FLUX transformer, not a CLIP/, () =>
      convert(input, to('x.gguf'), { type: 'F16', network: 'clip' }),
    )
  })

  test('numbers that are none', async () => {
    const sources = [...readTensors(await goldenWeights('clip-tiny'))].map(([name, { shape, data }]): TensorSource => {
      const values = Float32Array.from(data as Float32Array)
      if (name === 'text_model.encoder.layers.1.mlp.fc1.weight') values[1000] = NaN
      return { name, shape, type: 'F32', data: new Uint8Array(values.buffer) }
    })
    await writeModelFile(to('nan.safetensors'), sources)
    await refused('FLUX_BAD_FILE', /layers\.1\.mlp\.fc1\.weight holds numbers that are not finite/, () =>
      convert(to('nan.safetensors'), to('x.gguf'), { type: 'Q8_0' }),
    )
  })

  test('an output that cannot be written, before the work', async () => {
    const input = await goldenWeights('flux-dev-tiny')
    const onProgress = () => expect.unreachable('data was asked for')
    mkdirSync(to('taken.gguf'))
    writeFileSync(to('a file'), '')
    const written = (name: string) => () => convert(input, to(name), { type: 'Q8_0', onProgress })
    await refused(
      'FLUX_NOT_FOUND',
      /nowhere.x\.gguf cannot be written: there is no such folder/,
      written('nowhere/x.gguf'),
    )
    await refused(
      'FLUX_NOT_FOUND',
      // Windows has one error for both
      /a file.x\.gguf cannot be written: (a part of the path is no folder|there is no such folder)/,
      written('a file/x.gguf'),
    )
    await refused('FLUX_BAD_FILE', /taken\.gguf cannot be written: this is a folder/, written('taken.gguf'))
    await refused('FLUX_BAD_FILE', /cannot be written: the name is too long/, written(`${'x'.repeat(300)}.gguf`))
  })

  test('a file that no disk has room for, before its data is asked for', async () => {
    const data = () => expect.unreachable('data was asked for')
    const large: TensorSource = { name: 'large', shape: [2 ** 20, 2 ** 30], type: 'F32', data }
    await refused(
      'FLUX_BAD_FILE',
      /x\.gguf cannot be written: it takes 4503599628 MB, and the disk has \d+ MB left/,
      () => writeModelFile(to('x.gguf'), [large]),
    )
  })

  test('an input that goes away meanwhile', async () => {
    const input = to('going.safetensors')
    await convert(await goldenWeights('flux-dev-tiny'), input, { type: 'F32' })
    const work = convert(input, to('x.gguf'), { type: 'Q8_0', onProgress: () => rmSync(input, { force: true }) })
    await expect(work).rejects.toMatchObject({
      name: 'FluxError',
      code: 'FLUX_NOT_FOUND',
      message: expect.stringMatching(/going\.safetensors cannot be opened/) as string,
    })
    expect(readdirSync(folder).filter((name) => name.startsWith('x.gguf'))).toEqual([])
  })

  test('an abort', async () => {
    const input = await goldenWeights('flux-dev-tiny')
    const controller = new AbortController()
    const reason = new Error('enough')
    const before = readdirSync(folder)
    const work = convert(input, to('x.gguf'), {
      type: 'Q4_0',
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(work).rejects.toBe(reason)
    expect(readdirSync(folder)).toEqual(before)
  })
})

describe('what a killed process left', () => {
  const partials = () =>
    readdirSync(folder)
      .filter((name) => name.includes('partial'))
      .sort()
  const tensor = (data: TensorSource['data']): TensorSource => ({ name: 'x', type: 'F32', shape: [2], data })

  test('is removed when the same file is written again', async () => {
    const input = await goldenWeights('flux-dev-tiny')
    const output = join(folder, 'again.gguf')
    const library = new URL('../../dist/index.js', import.meta.url).href
    const script = `
      const { convert } = await import(${JSON.stringify(library)})
      await convert(${JSON.stringify(input)}, ${JSON.stringify(output)}, { type: 'Q8_0', onProgress: () => process.kill(process.pid, 'SIGKILL') })`
    const { signal, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script])
    // Windows has no signals: who is killed ends with the code 1
    expect(signal ?? status).toBe(process.platform === 'win32' ? 1 : 'SIGKILL')
    expect(partials()).toHaveLength(1)
    const others = [
      'again.gguf.partial',
      'again.gguf.1.partial',
      `other.again.gguf.${crypto.randomUUID()}.partial`,
    ].sort()
    for (const name of others) writeFileSync(join(folder, name), '')
    await convert(input, output, { type: 'Q8_0' })
    expect(partials()).toEqual(others)
    for (const name of others) rmSync(join(folder, name))
  })

  test('is told from what another writer of the same file is at', async () => {
    const path = join(folder, 'both.gguf')
    let [reached, goOn] = [() => {}, () => {}]
    const waiting = new Promise<void>((resolve) => (reached = resolve))
    const go = new Promise<void>((resolve) => (goOn = resolve))
    const slow = writeModelFile(path, [
      tensor(async function* () {
        reached()
        await go
        yield new Uint8Array(8).fill(1)
      }),
    ])
    await waiting
    await writeModelFile(path, [tensor(new Uint8Array(8))])
    expect((await contents(path)).get('x')![2]).toEqual(Buffer.alloc(8))
    goOn()
    await slow
    expect((await contents(path)).get('x')![2]).toEqual(Buffer.alloc(8, 1))
    expect(partials()).toEqual([])
  })
})
