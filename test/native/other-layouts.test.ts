import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { writeModelFile } from '../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../lib/formats/file-header.js'
import { Autoencoder, ClipTextEncoder, FluxTransformer } from '../../lib/nn.js'
import { inspect } from '../../lib/inspect/file.js'
import { nativeQuantize as quantize } from '../../lib/native/addon.js'
import { devCase, goldenFloats, goldenIds } from '../support/cases.js'
import { convertWeights } from '../support/convert.js'
import { diffusersAutoencoder, diffusersFlux, openClip, rewrite, write } from '../support/dialects.js'
import { toFloat8 } from '../support/float8.js'
import { goldenWeights } from '../support/golden.js'
import { readTensors, relL2 } from '../support/safetensors.js'

// The same numbers in other names, cuts and files give the same bytes; beside that, the reference data.

const folder = mkdtempSync(join(tmpdir(), 'ggflux-layouts-'))
afterAll(() => rmSync(folder, { recursive: true }))

async function predicted(path: string, precision: 'auto' | 'f32' = 'auto'): Promise<Float32Array> {
  await using flux = await FluxTransformer.load(path, { precision })
  return flux.predict(devCase('b'))
}
const official = await goldenWeights('flux-dev-tiny')
const expected = await predicted(official)

describe('names', () => {
  test('the reference itself', () => {
    expect(relL2(expected, goldenFloats('flux-dev-tiny', 'b.out.pred'))).toBeLessThan(1e-3)
  })

  test.each(['', 'transformer.', 'model.diffusion_model.'])(
    "the transformer in diffusers' names, prefix '%s'",
    async (prefix) => {
      const path = await rewrite(official, join(folder, 'diffusers.safetensors'), (name, tensor) =>
        diffusersFlux(name, tensor).map(([renamed, part]) => [prefix + renamed, part]),
      )
      expect((await inspect(path)).architecture).toBe('FLUX.1 with guidance (dev)')
      expect(await predicted(path)).toEqual(expected)
    },
  )

  test.each([
    ['', 'safetensors'],
    ['model.diffusion_model.', 'safetensors'],
    ['', 'gguf'],
    ['diffusion_model.', 'gguf'],
  ])("the transformer with norms that are called weights, prefix '%s', in %s", async (prefix, extension) => {
    const path = await rewrite(official, join(folder, `norm-weights.${extension}`), (name, tensor) => [
      [prefix + name.replace(/_norm\.scale$/, '_norm.weight'), tensor],
    ])
    expect(await inspect(path)).toMatchObject({ architecture: 'FLUX.1 with guidance (dev)', problems: [] })
    expect(await predicted(path)).toEqual(expected)
  })

  test("the autoencoder in diffusers' names", async () => {
    const [weights, latent] = [await goldenWeights('ae-tiny'), goldenFloats('ae-tiny', 'dec-a.in.z')]
    const path = await rewrite(weights, join(folder, 'vae.safetensors'), diffusersAutoencoder)
    const decoded = async (file: string) => {
      await using vae = await Autoencoder.load(file)
      return vae.decode(latent, 8, latent.length / 16 / 8)
    }
    expect(await decoded(path)).toEqual(await decoded(weights))
  })

  test.each(['', 'cond_stage_model.model.'])("CLIP in OpenCLIP's names, prefix '%s'", async (prefix) => {
    const weights = await goldenWeights('clip-tiny')
    const renamed = [...openClip(readTensors(weights))].map(([name, tensor]) => [prefix + name, tensor] as const)
    const path = await write(join(folder, 'clip.safetensors'), new Map(renamed))
    const encoded = async (file: string) => {
      await using clip = await ClipTextEncoder.load(file)
      return (await clip.encode(goldenIds('clip-tiny', 'c.in.ids'))).hidden
    }
    expect(await encoded(path)).toEqual(await encoded(weights))
  })

  test('a part that is missing, and parts of different types, are told', async () => {
    const incomplete = await rewrite(
      official,
      join(folder, 'incomplete.safetensors'),
      diffusersFlux,
      (name) => name !== 'transformer_blocks.0.attn.to_k.weight',
    )
    await expect(predicted(incomplete)).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringMatching(
        /3 tensors make double_blocks\.0\.img_attn\.qkv\.weight together, and the file has only .*to_q.*to_v/,
      ) as string,
    })
    const sources: TensorSource[] = [...readTensors(official)]
      .flatMap(([name, tensor]) => diffusersFlux(name, tensor))
      .map(([name, { shape, data }]) =>
        name === 'transformer_blocks.0.attn.to_k.weight'
          ? { name, shape, type: 'BF16', data: new Uint8Array(2 * data.length) }
          : { name, shape, type: 'F32', data: new Uint8Array(data.buffer) },
      )
    await writeModelFile(join(folder, 'mixed.safetensors'), sources)
    await expect(predicted(join(folder, 'mixed.safetensors'))).rejects.toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringMatching(
        /to_q\.weight and .*to_k\.weight are parts of one, but have the types F32 and BF16/,
      ) as string,
    })
  })
})

describe('several files', () => {
  const part = (i: number) => join(folder, 'split', `model-0000${i}-of-00003.safetensors`)
  const index = join(folder, 'split', 'model.safetensors.index.json')

  async function split(): Promise<void> {
    mkdirSync(join(folder, 'split'), { recursive: true })
    const names = [...readTensors(official).keys()]
    const where = Object.fromEntries(names.map((name, i) => [name, i % 3]))
    for (const i of [0, 1, 2])
      await rewrite(
        official,
        part(i + 1),
        (name, tensor) => [[name, tensor]],
        (name) => where[name] === i,
      )
    const map = Object.fromEntries(names.map((name) => [name, `model-0000${where[name]! + 1}-of-00003.safetensors`]))
    writeFileSync(index, JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }))
  }

  test('any part, or the index, opens all of them', async () => {
    await split()
    for (const path of [part(1), part(3), index]) expect(await predicted(path)).toEqual(expected)
    expect((await inspect(index)).tensors).toBe(readTensors(official).size)
  })

  test('a part that is missing is named; an index may name nothing outside of its folder', async () => {
    await split()
    rmSync(part(2))
    await expect(predicted(part(1))).rejects.toMatchObject({
      code: 'FLUX_NOT_FOUND',
      message: expect.stringContaining('model-00002-of-00003') as string,
    })
    await expect(predicted(index)).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
    for (const [text, message] of [
      [JSON.stringify({ weight_map: { x: '../../secret.safetensors' } }), /no .safetensors file next to it/],
      [JSON.stringify({ weight_map: { x: 5 } }), /no .safetensors file next to it/],
      [JSON.stringify({ weight_map: {} }), /names 0 files/],
      [JSON.stringify({ weights: {} }), /no "weight_map"/],
      ['{', /no JSON/],
      ['null', /no JSON/],
    ] as const) {
      writeFileSync(index, text)
      await expect(predicted(index), text).rejects.toMatchObject({
        code: 'FLUX_BAD_FILE',
        message: expect.stringMatching(message) as string,
      })
    }
    const none = join(folder, 'model-00001-of-00000.safetensors')
    await expect(predicted(none)).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining('0 parts') as string,
    })
  })
})

describe.each(['F8_E4M3', 'F8_E5M2'] as const)('%s', (type) => {
  /** All tensors in float8, and the numbers that remain in F32; `scaleOf` a matrix's largest number gives its scale. */
  async function files(
    scaleOf?: (largest: number) => number,
    scaleName = 'scale_weight',
  ): Promise<[float8: string, plain: string]> {
    const [coarse, plain]: TensorSource[][] = [[], []]
    for (const [name, { shape, data }] of readTensors(official)) {
      const values = data as Float32Array
      const scaled = scaleOf && name.endsWith('.weight')
      const scale = scaled ? scaleOf(values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)) : 1
      const { codes, decoded } = toFloat8(type, values, scale)
      coarse!.push({ name, shape, type, data: codes })
      if (scaled) {
        const layer = name.replace(/\.weight$/, '')
        coarse!.push({
          name: `${layer}.${scaleName}`,
          shape: [1],
          type: 'F32',
          data: new Uint8Array(Float32Array.of(scale).buffer),
        })
        coarse!.push({ name: `${layer}.scale_input`, shape: [1], type: 'F32', data: new Uint8Array(4) })
      }
      plain!.push({ name, shape, type: 'F32', data: new Uint8Array(decoded.buffer) })
    }
    if (scaleOf) coarse!.push({ name: 'scaled_fp8', shape: [2], type, data: new Uint8Array(2) })
    const paths: [string, string] = [join(folder, `${type}.safetensors`), join(folder, `${type}-plain.safetensors`)]
    await writeModelFile(paths[0], coarse!)
    await writeModelFile(paths[1], plain!)
    return paths
  }

  test('is the same as its numbers in F32', async () => {
    const [float8, plain] = await files()
    expect(await predicted(float8, 'f32')).toEqual(await predicted(plain, 'f32'))
    // what is rounded to bfloat16 by default are the activations
    expect(relL2(await predicted(float8), await predicted(plain))).toBeLessThan(0.02)
  })

  test.each(['scale_weight', 'weight_scale'])('with scales, named %s', async (scaleName) => {
    // a power of two keeps the numbers exact in bfloat16
    const [float8, plain] = await files((largest) => 2 ** Math.ceil(Math.log2(largest / 448)), scaleName)
    expect(await predicted(float8, 'f32')).toEqual(await predicted(plain, 'f32'))
    // any other is rounded: 8 bits of mantissa in each weight
    const [rounded, exact] = await files((largest) => largest / 448, scaleName)
    const [actual, reference] = [await predicted(rounded, 'f32'), await predicted(exact, 'f32')]
    expect(relL2(actual, reference)).toBeLessThan(2e-2)
    expect(relL2(actual, reference)).toBeGreaterThan(0)
  })

  test('a scale that is no single number is refused', async () => {
    const path = join(folder, 'rows.safetensors')
    const sources = [...readTensors(official)].map(
      ([name, { shape, data }]): TensorSource => ({ name, shape, type, data: new Uint8Array(data.length) }),
    )
    await writeModelFile(path, [
      ...sources,
      { name: 'img_in.scale_weight', shape: [2], type: 'F32', data: new Uint8Array(8) },
    ])
    await expect(predicted(path)).rejects.toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringContaining('img_in.scale_weight') as string,
    })
  })
})

// Of the types that need no second matrix to be made. ggml decodes them for the F32 path and multiplies their blocks for the other.
test.each(['IQ3_S', 'IQ3_XXS', 'IQ2_S'] as const)('%s: products of blocks agree with decoded weights', async (type) => {
  const weights = readTensors(official)
  const coarse = (name: string) => name.endsWith('.weight') && weights.get(name)!.shape.at(-1)! % 256 === 0
  const path = await convertWeights(official, join(folder, `${type}.gguf`), {
    type: (name) => (coarse(name) ? type : 'F32'),
    quantize,
  })
  const [exact, fast] = [await predicted(path, 'f32'), await predicted(path)]
  expect(relL2(fast, exact)).toBeLessThan(0.06)
  expect(relL2(exact, expected)).toBeLessThan(0.9)
})
