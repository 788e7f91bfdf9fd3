import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLIP } from '../../../lib/networks/clip/definition.js'
import { FLUX } from '../../../lib/networks/flux/definition.js'
import type { LayoutTensor } from '../../../lib/networks/layout.js'
import { networkExamples } from '../../../lib/networks/registry.js'
import { openModelFile } from '../../../lib/formats/open.js'
import { synthesize } from '../../../lib/tools/synth/synth.js'
import { storedType } from '../../../lib/tools/quantisation-rules.js'
import { TENSOR_TYPES } from '../../../lib/formats/tensor-types.js'
import { ClipTokenizer } from '../../../lib/tokenizers/clip.js'
import { goldenRecipe, type GoldenModel } from '../../support/golden.js'
import { dequantize, type BlockType } from '../../support/dequantize.js'

function layoutOf(name: string): LayoutTensor[] {
  const { definition, config } = networkExamples().get(name)!
  return definition.layout(config)
}

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ggflux-synth-'))
})

afterAll(() => rmSync(folder, { recursive: true }))

/** Stands in for ggml's quantiser: the right number of bytes, block by block a copy of the values' upper bytes. */
async function blockCopies(type: number, data: Float32Array, rowLength: number): Promise<Uint8Array> {
  const { blockSize, blockBytes } = Object.values(TENSOR_TYPES).find(({ id }) => id === type)!
  expect(rowLength % blockSize).toBe(0)
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return Uint8Array.from(
    { length: (data.length / blockSize) * blockBytes },
    (_, i) => bytes[(i * 4 + 2) % bytes.length]!,
  )
}

/** All values of a tensor, read without the library's reader of data. */
async function values(path: string, name: string): Promise<Float32Array> {
  const { type, offset, byteLength } = (await openModelFile(path)).tensors.get(name)!
  return dequantize(type as BlockType, readFileSync(path).subarray(offset, offset + byteLength))
}

function moments(data: Float32Array): { mean: number; deviation: number } {
  const mean = data.reduce((sum, value) => sum + value, 0) / data.length
  return { mean, deviation: Math.sqrt(data.reduce((sum, value) => sum + (value - mean) ** 2, 0) / data.length) }
}

describe('architectures', () => {
  // published numbers: the model cards of black-forest-labs/FLUX.1-*, google/t5-v1_1-xxl (encoder), openai/clip-vit-large-patch14 (text)
  it.each<[string, number]>([
    ['flux-dev', 11_901_408_320],
    ['flux-schnell', 11_891_178_560],
    ['t5-xxl', 4_762_310_656],
    ['clip-l', 123_060_480],
    ['autoencoder', 83_819_683],
  ])('%s has %i parameters', (name, expected) => {
    const parameters = layoutOf(name).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
    expect(parameters).toBe(expected)
  })

  it.each<[string, GoldenModel]>([
    ['flux-tiny', 'flux-dev-tiny'],
    ['t5-tiny', 't5-tiny'],
    ['clip-tiny', 'clip-tiny'],
    ['autoencoder-tiny', 'ae-tiny'],
  ])('%s has the tensors of the golden %s', (name, model) => {
    const shapes = new Map(layoutOf(name).map((tensor) => [tensor.name, tensor.shape]))
    expect(shapes).toEqual(new Map(goldenRecipe(model).tensors.map((tensor) => [tensor.name, tensor.shape])))
  })

  it('Fill and Canny differ from dev by their input channels', () => {
    const input = (name: string) => layoutOf(name).find((tensor) => tensor.name === 'img_in.weight')!.shape
    expect([input('flux-fill'), input('flux-canny')]).toEqual([
      [3072, 384],
      [3072, 128],
    ])
  })
})

describe('storedType', () => {
  const flux = new Map(layoutOf('flux-dev').map((tensor) => [tensor.name, tensor]))

  it('keeps what converters keep', () => {
    const type = (name: string) => storedType(FLUX, flux.get(name)!, 'Q4_K')
    expect(type('double_blocks.18.txt_mlp.2.weight')).toBe('Q4_K')
    expect(type('double_blocks.18.txt_mlp.2.bias')).toBe('F32')
    expect(type('single_blocks.0.norm.key_norm.scale')).toBe('F32')
    expect(type('txt_in.weight')).toBe('BF16')
    expect(type('final_layer.adaLN_modulation.1.weight')).toBe('BF16')
    expect(storedType(FLUX, flux.get('txt_in.weight')!, 'F16')).toBe('F16')
  })

  it('gives the published size of FLUX.1-schnell in Q4_0', () => {
    // flux1-schnell-Q4_0.gguf of city96/FLUX.1-schnell-gguf: 6.8 GB; the official BF16 file has 23.8 GB
    const bytes = layoutOf('flux-schnell').reduce((sum, tensor) => {
      const { blockSize, blockBytes } = TENSOR_TYPES[storedType(FLUX, tensor, 'Q4_0')]
      return sum + (tensor.shape.reduce((a, b) => a * b, 1) / blockSize) * blockBytes
    }, 0)
    expect(bytes / 1e9).toBeCloseTo(6.8, 1)
  })

  it('falls back where rows are no whole blocks', () => {
    expect(storedType(FLUX, { name: 'a.weight', shape: [64, 96], role: 'matrix' }, 'Q4_K')).toBe('F16')
    expect(storedType(FLUX, { name: 'a.weight', shape: [64, 96], role: 'matrix' }, 'Q4_0')).toBe('Q4_0')
  })
})

describe('synthesize', () => {
  const NAMES: string[] = ['flux-tiny', 't5-tiny', 'clip-tiny', 'autoencoder-tiny']

  it.each(
    NAMES.flatMap(
      (name) =>
        [
          [name, 'gguf'],
          [name, 'safetensors'],
        ] as const,
    ),
  )('%s as %s has every tensor', async (name, format) => {
    const path = join(folder, `${name}.${format}`)
    const progress: [number, number][] = []
    const result = await synthesize({
      architecture: name,
      path,
      type: 'BF16',
      onProgress: (done, total) => progress.push([done, total]),
    })
    const file = await openModelFile(path)
    expect(file.format).toBe(format)
    expect(result).toMatchObject({
      path,
      size: file.size,
      tensors: file.tensors.size,
      config: networkExamples().get(name)!.config,
    })
    expect(progress.at(-1)![0]).toBe(progress.at(-1)![1])
    if (format === 'safetensors')
      expect(new Set([...file.tensors.values()].map(({ type }) => type))).toEqual(new Set(['BF16']))
    const shapes = new Map([...file.tensors].map(([tensor, { shape }]) => [tensor, shape]))
    expect(shapes).toEqual(new Map(layoutOf(name).map((tensor) => [tensor.name, tensor.shape])))
  })

  it('writes normal weights of standard deviation 1/sqrt(fan-in), norms around 1, and a different tensor under every name', async () => {
    const path = join(folder, 'normal.safetensors')
    await synthesize({ architecture: 'flux-tiny', path, type: 'F32' })
    const qkv = await values(path, 'double_blocks.0.img_attn.qkv.weight')
    expect(moments(qkv).mean).toBeCloseTo(0, 2)
    expect(moments(qkv).deviation).toBeCloseTo(1 / 16, 3)
    // 68.3 % of a normal distribution lies within one standard deviation, 95.4 % within two
    expect(qkv.filter((value) => Math.abs(value) < 1 / 16).length / qkv.length).toBeCloseTo(0.683, 2)
    expect(qkv.filter((value) => Math.abs(value) < 2 / 16).length / qkv.length).toBeCloseTo(0.954, 2)
    const norm = moments(await values(path, 'single_blocks.1.norm.query_norm.scale'))
    expect(Math.abs(norm.mean - 1)).toBeLessThan(0.06)
    expect(Math.abs(norm.deviation - 0.15)).toBeLessThan(0.04)
    const { tensors } = await openModelFile(path)
    const data = readFileSync(path)
    const hashes = [...tensors.values()].map(({ offset, byteLength }) =>
      sha256(data.subarray(offset, offset + byteLength)),
    )
    expect(new Set(hashes).size).toBe(tensors.size)
  })

  it('blurs with the kernels of the upsampling layers', async () => {
    const path = join(folder, 'blur.safetensors')
    await synthesize({ architecture: 'autoencoder-tiny', path, type: 'F32' })
    const kernel = await values(path, 'decoder.up.1.upsample.conv.weight')
    const ratios = Array.from({ length: 9 }, (_, i) => kernel[9 * 7 + i]! / kernel[9 * 7 + 4]!)
    for (const [i, expected] of [1, 2, 1, 2, 4, 2, 1, 2, 1].entries()) expect(ratios[i]! * 4).toBeCloseTo(expected, 5)
  })

  it('is the same for the same seed and another for another', async () => {
    const make = async (file: string, seed?: number) => {
      const path = join(folder, file)
      await synthesize({ architecture: 'clip-tiny', path, ...(seed === undefined ? {} : { seed }) })
      return sha256(readFileSync(path))
    }
    const first = await make('seed-a.gguf')
    expect(await make('seed-b.gguf', 0)).toBe(first)
    expect(await make('seed-c.gguf', 1)).not.toBe(first)
  })

  it('quantises matrices only, and writes metadata and the tokenizer', async () => {
    const path = join(folder, 't5-q4.gguf')
    await synthesize({ architecture: 't5-tiny', path, type: 'Q4_0', quantize: blockCopies })
    const { tensors, metadata } = await openModelFile(path)
    const types = Object.fromEntries(
      [...tensors].filter(([name]) => !/block\.[12]/.test(name)).map(([name, { type }]) => [name, type]),
    )
    expect(types).toMatchObject({
      'shared.weight': 'Q4_0',
      'encoder.block.0.layer.0.SelfAttention.q.weight': 'Q4_0',
      'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight': 'F32',
      'encoder.block.0.layer.0.layer_norm.weight': 'F32',
    })
    expect(metadata.get('general.architecture')).toBe('t5encoder')
    expect(metadata.get('general.file_type')).toBe(2)
    expect(metadata.get('tokenizer.ggml.model')).toBe('t5')
    expect(metadata.get('tokenizer.ggml.tokens')).toHaveLength(512)
  })

  it('takes other depths and widths', async () => {
    const path = join(folder, 'wide.gguf')
    const config = { hiddenSize: 384, numHeads: 3, depth: 1, depthSingleBlocks: 4 }
    const result = await synthesize({ architecture: 'flux-tiny', path, config })
    const { tensors } = await openModelFile(path)
    expect(tensors.get('single_blocks.3.linear1.weight')!.shape).toEqual([7 * 384, 384])
    expect(tensors.has('double_blocks.1.img_mod.lin.weight')).toBe(false)
    expect(result.config).toMatchObject({ hiddenSize: 384, depth: 1 })
  })

  it.each([
    [{ architecture: 'flux-huge' }, /architecture is 'flux-huge'.*flux-schnell/],
    [{ type: 'Q9' }, /type is 'Q9'.*Q4_0/],
    [{ type: 'Q4_0' }, /quantiser/],
    [{ type: 'Q4_0', path: 'x.safetensors', quantize: blockCopies }, /x\.safetensors.*Q4_0.*\.gguf/],
    [{ path: 'x.bin' }, /x\.bin.*\.gguf/],
    [{ seed: -1 }, /seed is -1/],
    [{ seed: 1.5 }, /seed is 1.5/],
    [{ config: { width: 3 } }, /config\.width.*hiddenSize/],
    [{ config: { depth: 0 } }, /config\.depth is 0/],
    [{ config: { depth: 1e9 } }, /config\.depth is 1000000000/],
    [{ config: { depth: '2' } }, /config\.depth is "2"/],
    [{ config: { numHeads: 3 } }, /query_norm.*heads/],
    [{ config: { axesDim: [16, 56, 58] } }, /axesDim/],
  ])('refuses %o', async (wrong, message) => {
    const options = { architecture: 'flux-tiny', path: join(folder, 'refused.gguf'), ...wrong } as Parameters<
      typeof synthesize
    >[0]
    await expect(synthesize(options)).rejects.toMatchObject({
      code: 'FLUX_BAD_OPTION',
      message: expect.stringMatching(message),
    })
    expect(existsSync(options.path)).toBe(false)
  })

  it('stops at an abort and leaves nothing', async () => {
    const controller = new AbortController()
    const path = join(folder, 'aborted.gguf')
    const onProgress = () => controller.abort(new Error('enough'))
    const running = synthesize({ architecture: 'flux-tiny', path, signal: controller.signal, onProgress })
    await expect(running).rejects.toThrow('enough')
    expect(readdirSync(folder).filter((name) => name.startsWith('aborted'))).toEqual([])
  })
})

function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

describe('a CLIP encoder', () => {
  it('comes with a tokenizer that fits it, and leaves one that is there alone', async () => {
    const own = mkdtempSync(join(folder, 'clip-'))
    await synthesize({ architecture: 'clip-tiny', type: 'F32', path: join(own, 'clip.safetensors') })
    const { ids, eos } = (await ClipTokenizer.load(own)).encode('a red fox')
    expect(ids[0]).toBe(CLIP.examples['clip-tiny']!.vocabSize - 2)
    expect(ids[eos]).toBe(CLIP.examples['clip-tiny']!.vocabSize - 1)

    writeFileSync(join(own, 'vocab.json'), 'mine')
    await synthesize({ architecture: 'clip-tiny', type: 'F32', path: join(own, 'other.safetensors') })
    expect(readFileSync(join(own, 'vocab.json'), 'utf8')).toBe('mine')
  })
})
