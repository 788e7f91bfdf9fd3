import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { inspect } from '../../../lib/inspect/file.js'
import { fluxLayout } from '../../../lib/networks/flux/layout.js'
import { isCoarse, networkOf } from '../../../lib/networks/network-file.js'
import { writeModelFile } from '../../../lib/formats/write-model-file.js'
import type { TensorSource } from '../../../lib/formats/file-header.js'
import { goldenRecipe, type GoldenModel } from '../../support/golden.js'
import { modelFileOf } from '../../support/model-files.js'
import type { MetadataValue } from '../../../lib/formats/model-file.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-inspect-'))
afterAll(() => rmSync(folder, { recursive: true }))

const zeros = (tensors: { name: string; shape: number[] }[]): TensorSource[] =>
  tensors.map(({ name, shape }) => ({
    name,
    shape,
    type: 'BF16',
    data: new Uint8Array(2 * shape.reduce((product, size) => product * size, 1)),
  }))

async function inspected(
  name: string,
  tensors: { name: string; shape: number[] }[],
  metadata?: Record<string, MetadataValue>,
) {
  const path = join(folder, name)
  await writeModelFile(path, zeros(tensors), metadata)
  return inspect(path)
}

describe('inspect', () => {
  it.each<[GoldenModel, string, string]>([
    ['flux-dev-tiny', 'transformer', 'FLUX.1 with guidance (dev)'],
    ['flux-schnell-tiny', 'transformer', 'FLUX.1 without guidance (schnell)'],
    ['t5-tiny', 't5', 'T5 text encoder'],
    ['clip-tiny', 'clip', 'CLIP text encoder'],
    ['ae-tiny', 'autoencoder', 'autoencoder'],
  ])('tells what %s is', async (model, role, architecture) => {
    const { tensors, parameters } = goldenRecipe(model)
    const result = await inspected(`${model}.safetensors`, tensors)
    expect(result).toMatchObject({
      format: 'safetensors',
      role,
      architecture,
      parameters,
      tensors: tensors.length,
      problems: [],
      tokenizer: false,
    })
    expect(result.types).toEqual({ BF16: { count: tensors.length, bytes: 2 * parameters } })
    expect(result.config).toBeDefined()
  })

  it.each([
    [384, 'FLUX.1 with guidance (Fill)'],
    [128, 'FLUX.1 with guidance (Canny or Depth)'],
  ])('tells a transformer with %i channels', async (inChannels, architecture) => {
    const layout = fluxLayout({
      inChannels,
      outChannels: 64,
      hiddenSize: 128,
      numHeads: 1,
      depth: 1,
      depthSingleBlocks: 1,
      contextInDim: 64,
      vecInDim: 64,
      guidanceEmbed: true,
      axesDim: [16, 56, 56],
      theta: 10000,
    })
    expect((await inspected(`${inChannels}.gguf`, layout)).architecture).toBe(architecture)
  })

  it('shows short metadata and finds the tokenizer', async () => {
    const metadata = { 'general.name': 'x', 'tokenizer.ggml.tokens': ['a', 'b'], long: 'x'.repeat(500), big: 2n ** 63n }
    const result = await inspected('t5.gguf', goldenRecipe('t5-tiny').tensors, metadata)
    expect(result.metadata).toEqual({
      'general.name': 'x',
      'tokenizer.ggml.tokens': '2 values',
      big: '9223372036854775808',
    })
    expect(result.tokenizer).toBe(true)
  })

  it('tells what is wrong with a network that cannot be loaded', async () => {
    const result = await inspected('part.gguf', goldenRecipe('clip-tiny').tensors.slice(0, 30))
    expect(result.role).toBe('clip')
    expect(result.problems).toEqual([expect.stringMatching(/tensor text_model\.\S+ and \d+ more are missing/)])
    expect(result.config).toBeUndefined()
  })

  it('works for unknown and for foreign files', async () => {
    const unknown = await inspected('unknown.gguf', [{ name: 'x', shape: [2, 3] }])
    expect(unknown).toMatchObject({
      role: 'unknown',
      architecture: 'unknown',
      parameters: 6,
      problems: [expect.stringContaining('no known names')],
    })
    const foreign = await inspected('foreign.gguf', [{ name: 'transformer_blocks.0.attn.to_q.weight', shape: [2] }])
    expect(foreign).toMatchObject({ role: 'unknown', architecture: 'transformer in the names of diffusers' })
  })

  it('tells what a LoRA adds to', async () => {
    const pair = (layer: string, rows: number, columns: number) => [
      { name: `${layer}.lora_down.weight`, shape: [4, columns] },
      { name: `${layer}.lora_up.weight`, shape: [rows, 4] },
    ]
    const layers = [
      ...pair('lora_unet_double_blocks_0_img_attn_proj', 3072, 3072),
      ...pair('lora_te1_text_model_encoder_layers_0_mlp_fc1', 3072, 768),
    ]
    const architecture = 'LoRA of rank 4: layers 1 in the FLUX transformer, 1 in the CLIP text encoder'
    expect(await inspected('lora.safetensors', layers)).toMatchObject({ role: 'lora', architecture, problems: [] })
    const more = await inspected('more.safetensors', [
      ...layers,
      { name: 'lora_unet_else.lora_up.weight', shape: [4, 4] },
    ])
    expect(more).toMatchObject({
      role: 'lora',
      problems: [expect.stringContaining('1 of its tensors belong to nothing here')],
    })
    const bias = { name: 'lora_unet_double_blocks_0_img_attn_proj.diff_b', shape: [3072] }
    const norm = { name: 'lora_te1_text_model_encoder_layers_0_layer_norm1.w_norm', shape: [768] }
    const whole =
      'LoRA, biases, whole differences of rank 4: layers 1 in the FLUX transformer, 2 in the CLIP text encoder'
    expect(await inspected('whole.safetensors', [...layers, bias, norm])).toMatchObject({
      role: 'lora',
      architecture: whole,
      problems: [],
    })
    const wrong = await inspected('wrong.safetensors', pair('lora_unet_double_blocks_0_img_attn_proj', 64, 64))
    expect(wrong).toMatchObject({ role: 'lora', problems: [expect.stringContaining('takes 64 numbers')] })
    const other = await inspected('other.safetensors', pair('lora_unet_down_blocks_0_attentions_0_proj_in', 64, 64))
    expect(other).toMatchObject({
      role: 'unknown',
      problems: [expect.stringContaining('a LoRA or a similar addition')],
    })
  })

  it('tells what the weights take in memory, without what else is in the file', async () => {
    const t5 = goldenRecipe('t5-tiny')
    const alone = await inspected('t5-alone.safetensors', t5.tensors)
    const decoder = { name: 'decoder.block.0.layer.0.SelfAttention.q.weight', shape: [256, 256] }
    const whole = await inspected('t5-whole.safetensors', [...t5.tensors, decoder])
    expect(alone.weights).toBeGreaterThan(2 * t5.parameters - 1)
    expect(whole.weights).toBe(alone.weights)
    expect(whole.size).toBeGreaterThan(alone.size + 2 * 256 * 256)
    expect((await inspected('t5-part.gguf', t5.tensors.slice(0, 9))).weights).toBeUndefined()
  })

  it('rounds activations by the weights of the network itself, whatever else is in the file', () => {
    const tensors = (model: GoldenModel, prefix: string) =>
      goldenRecipe(model).tensors.map(({ name, shape }) => ({ name: prefix + name, shape }))
    const flux = modelFileOf(tensors('flux-dev-tiny', 'model.diffusion_model.'), { type: 'F16' })
    const t5 = modelFileOf(tensors('t5-tiny', 'text_encoders.t5xxl.transformer.'), { type: 'BF16' })
    // more of it than of the transformer
    const spare = {
      name: 'text_encoders.t5xxl.transformer.decoder.x',
      type: 'BF16' as const,
      shape: [2 ** 24],
      offset: 0,
      byteLength: 2 ** 25,
    }
    const both = { ...flux, tensors: new Map([...flux.tensors, ...t5.tensors, [spare.name, spare]]) }
    expect(isCoarse(networkOf('flux', both))).toBe(false)
    expect(isCoarse(networkOf('t5', both))).toBe(true)
    expect(isCoarse(networkOf('flux', modelFileOf(goldenRecipe('flux-dev-tiny').tensors, { type: 'F8_E5M2' })))).toBe(
      true,
    )
  })

  it('refuses what is no path', async () => {
    for (const path of [undefined, null, '', 5, {}]) {
      await expect(inspect(path as never)).rejects.toMatchObject({
        name: 'FluxError',
        code: 'FLUX_BAD_OPTION',
        message: expect.stringMatching(/^path is/),
      })
    }
  })

  it('refuses a broken file', async () => {
    const path = join(folder, 'cut.gguf')
    await writeModelFile(path, zeros([{ name: 'x', shape: [1000] }]))
    truncateSync(path, 500)
    await expect(inspect(path)).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining('incomplete'),
    })
    writeFileSync(path, '')
    await expect(inspect(path)).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining('empty'),
    })
  })
})
