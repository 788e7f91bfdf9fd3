import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { networkOf, openNetworkFile } from '../../../lib/networks/network-file.js'
import { writeModelFile } from '../../../lib/formats/write-model-file.js'
import type { NetworkKind } from '../../../lib/networks/registry.js'
import { goldenRecipe, type GoldenModel } from '../../support/golden.js'
import { modelFileOf } from '../../support/model-files.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-network-file-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** those whose files hold nothing else in the reference data */
type Golden = Extract<NetworkKind, 'flux' | 't5' | 'clip' | 'autoencoder'>
const MODELS: Record<Golden, GoldenModel> = {
  flux: 'flux-dev-tiny',
  t5: 't5-tiny',
  clip: 'clip-tiny',
  autoencoder: 'ae-tiny',
}
const tensorsOf = (kind: Golden) => goldenRecipe(MODELS[kind]).tensors.map(({ name, shape }) => ({ name, shape }))
const fileOf = (kind: Golden, options?: Parameters<typeof modelFileOf>[1]) => modelFileOf(tensorsOf(kind), options)
const fails = (run: () => unknown, code: string, message: RegExp) =>
  expect(run).toThrowError(
    expect.objectContaining({ name: 'FluxError', code, message: expect.stringMatching(message) }),
  )

/** canonical name to the name in llama.cpp's T5 files, by its own list (`gguf-py/gguf/constants.py` and `tensor_mapping.py`) */
const LLAMA_CPP_T5: [string, string][] = [
  ['shared.weight', 'token_embd.weight'],
  ['encoder.final_layer_norm.weight', 'enc.output_norm.weight'],
  ['encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight', 'enc.blk.0.attn_rel_b.weight'],
  ...[0, 1, 2].flatMap((i): [string, string][] => [
    [`encoder.block.${i}.layer.0.SelfAttention.q.weight`, `enc.blk.${i}.attn_q.weight`],
    [`encoder.block.${i}.layer.0.SelfAttention.k.weight`, `enc.blk.${i}.attn_k.weight`],
    [`encoder.block.${i}.layer.0.SelfAttention.v.weight`, `enc.blk.${i}.attn_v.weight`],
    [`encoder.block.${i}.layer.0.SelfAttention.o.weight`, `enc.blk.${i}.attn_o.weight`],
    [`encoder.block.${i}.layer.0.layer_norm.weight`, `enc.blk.${i}.attn_norm.weight`],
    [`encoder.block.${i}.layer.1.DenseReluDense.wi_0.weight`, `enc.blk.${i}.ffn_gate.weight`],
    [`encoder.block.${i}.layer.1.DenseReluDense.wi_1.weight`, `enc.blk.${i}.ffn_up.weight`],
    [`encoder.block.${i}.layer.1.DenseReluDense.wo.weight`, `enc.blk.${i}.ffn_down.weight`],
    [`encoder.block.${i}.layer.1.layer_norm.weight`, `enc.blk.${i}.ffn_norm.weight`],
  ]),
]

describe('networkOf', () => {
  it.each<Golden>(['flux', 't5', 'clip', 'autoencoder'])(
    'gives the native table of %s in the order of the layout',
    (kind) => {
      const file = fileOf(kind)
      const { tensors } = networkOf(kind, file)
      expect(tensors).toEqual(
        tensorsOf(kind).map(({ name, shape }) => ({
          name,
          type: 0,
          shape: shape.toReversed(),
          pieces: [{ file: 0, offset: file.tensors.get(name)!.offset, bytes: file.tensors.get(name)!.byteLength }],
        })),
      )
    },
  )

  it.each<[Golden, string]>([
    ['flux', 'model.diffusion_model.'],
    ['autoencoder', 'first_stage_model.'],
    ['autoencoder', 'vae.'],
    ['t5', 'text_encoders.t5xxl.transformer.'],
    ['clip', 'text_encoders.clip_l.transformer.'],
  ])('takes %s with the prefix %s out of a file of several networks', (kind, prefix) => {
    const others = [{ name: 'other.network.weight', shape: [2, 2] }]
    const file = modelFileOf([...others, ...tensorsOf(kind).map(({ name, shape }) => ({ name: prefix + name, shape }))])
    expect(networkOf(kind, file).tensors.map(({ name }) => name)).toEqual(tensorsOf(kind).map(({ name }) => name))
  })

  it('takes T5 in the names of llama.cpp', () => {
    const names = new Map(LLAMA_CPP_T5)
    const file = fileOf('t5', { type: 'Q8_0', rename: (name) => names.get(name)! })
    const { tensors, config } = networkOf('t5', file)
    for (const [canonical, name] of LLAMA_CPP_T5) {
      expect(tensors.find((tensor) => tensor.name === canonical)!.pieces[0]!.offset, name).toBe(
        file.tensors.get(name)!.offset,
      )
    }
    expect(config.numHeads).toBe(8)
  })

  it('takes the embedding by its second name, and drops the second where both are there', () => {
    const alias = fileOf('t5', { rename: (name) => (name === 'shared.weight' ? 'encoder.embed_tokens.weight' : name) })
    expect(networkOf('t5', alias).tensors[0]).toMatchObject({ name: 'shared.weight', pieces: [{ offset: 0 }] })
    const both = modelFileOf([...tensorsOf('t5'), { name: 'encoder.embed_tokens.weight', shape: [512, 256] }])
    expect(networkOf('t5', both).tensors).toHaveLength(tensorsOf('t5').length)
  })

  it('takes CLIP without `text_model.`, and leaves out what the text encoder does not use', () => {
    const bare = fileOf('clip', { rename: (name) => name.replace('text_model.', '') })
    expect(networkOf('clip', bare).tensors.map(({ name }) => name)).toEqual(tensorsOf('clip').map(({ name }) => name))
    const full = [
      'text_model.embeddings.position_ids',
      'logit_scale',
      'text_projection.weight',
      'visual_projection.weight',
      'vision_model.x',
    ]
    const file = modelFileOf([...tensorsOf('clip'), ...full.map((name) => ({ name, shape: [4] }))])
    expect(networkOf('clip', file).tensors).toHaveLength(tensorsOf('clip').length)
  })

  it('leaves the decoder of a full T5 alone', () => {
    const decoder = ['decoder.block.0.layer.0.SelfAttention.q.weight', 'lm_head.weight'].map((name) => ({
      name,
      shape: [2, 2],
    }))
    expect(networkOf('t5', modelFileOf([...decoder, ...tensorsOf('t5')])).tensors).toHaveLength(tensorsOf('t5').length)
  })

  it('passes quantised matrices', () => {
    const { tensors } = networkOf('flux', fileOf('flux', { type: 'Q4_0' }))
    expect(tensors.find(({ name }) => name === 'img_in.weight')!.type).toBe(2)
  })

  // bitsandbytes, `functional.py` (QuantState.as_dict) and `nn/modules.py` (SCB); Forge's checkpoints and diffusers write these names
  const packed = (kind: Golden, prefix: string, type: 'U8' | 'I8', beside: Record<string, number[]>) => {
    const file = modelFileOf(
      tensorsOf(kind).flatMap(({ name, shape }) => {
        const isMatrix = shape.length === 2
        const inside = type === 'U8' && isMatrix ? [shape.reduce((product, size) => product * size) / 2, 1] : shape
        const others = isMatrix
          ? Object.entries(beside).map(([suffix, shape]) => ({ name: prefix + name + suffix, shape }))
          : []
        return [{ name: prefix + name, shape: inside }, ...others]
      }),
    )
    for (const tensor of file.tensors.values()) if (tensor.shape.length === 2) tensor.type = type
    return file
  }
  const STATE = { '.absmax': [4], '.quant_map': [16] }
  it.each<[string, Golden, string, 'U8' | 'I8', Record<string, number[]>]>([
    [
      'NF4 (bitsandbytes)',
      'flux',
      'model.diffusion_model.',
      'U8',
      { ...STATE, '.quant_state.bitsandbytes__nf4': [90] },
    ],
    ['FP4 (bitsandbytes)', 'flux', '', 'U8', { ...STATE, '.quant_state.bitsandbytes__fp4': [90] }],
    ['NF4 (bitsandbytes)', 't5', '', 'U8', { ...STATE, '.quant_state.bitsandbytes__nf4': [90] }],
    ['INT8 (bitsandbytes)', 't5', '', 'I8', { '.SCB': [4] }],
  ])('names %s of %s, and what to use instead', (what, kind, prefix, type, beside) => {
    const message = new RegExp(
      `packed in ${what.replace(/[()]/g, '\\$&')}, as tensor .* shows, and cannot be read\\. Use a GGUF version`,
    )
    fails(() => networkOf(kind, packed(kind, prefix, type, beside)), 'FLUX_UNSUPPORTED', message)
  })

  it('reads a network beside a packed one', () => {
    const { tensors } = packed('flux', 'model.diffusion_model.', 'U8', { '.quant_state.bitsandbytes__nf4': [90] })
    const vae = modelFileOf(tensorsOf('autoencoder'), { rename: (name) => `vae.${name}` })
    const both = { ...vae, tensors: new Map([...tensors, ...vae.tensors]) }
    expect(networkOf('autoencoder', both).tensors).toHaveLength(tensorsOf('autoencoder').length)
  })

  it('counts the bytes of its own tensors, as they are held in memory', () => {
    const numbers = (kind: Golden, keep: (dimensions: number) => boolean) =>
      tensorsOf(kind)
        .filter(({ shape }) => keep(shape.length))
        .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size), 0)
    const [matrices, others] = [numbers('flux', (n) => n === 2), numbers('flux', (n) => n !== 2)]
    const flux = fileOf('flux', { rename: (name) => `model.diffusion_model.${name}` })
    const alone = networkOf('flux', flux).bytes
    expect(alone).toBe(4 * (matrices + others))
    const t5 = modelFileOf(tensorsOf('t5'), { rename: (name) => `text_encoders.t5xxl.transformer.${name}` })
    expect(
      networkOf('flux', { ...flux, size: flux.size + t5.size, tensors: new Map([...t5.tensors, ...flux.tensors]) })
        .bytes,
    ).toBe(alone)
    // float8 becomes bfloat16
    expect(networkOf('flux', fileOf('flux', { type: 'F8_E4M3' })).bytes).toBe(2 * matrices + 4 * others)
    // convolutions and norms become F32
    expect(networkOf('autoencoder', fileOf('autoencoder', { type: 'F16' })).bytes).toBe(
      4 * numbers('autoencoder', () => true),
    )
    const decoder = [{ name: 'decoder.block.0.layer.0.SelfAttention.q.weight', shape: [512, 512] }]
    expect(networkOf('t5', modelFileOf([...decoder, ...tensorsOf('t5')])).bytes).toBe(
      networkOf('t5', fileOf('t5')).bytes,
    )
  })

  const without = (kind: Golden, ...names: string[]) =>
    modelFileOf(tensorsOf(kind).filter(({ name }) => !names.includes(name)))
  const reshaped = (kind: Golden, name: string, shape: number[]) =>
    modelFileOf(tensorsOf(kind).map((tensor) => (tensor.name === name ? { name, shape } : tensor)))
  const retyped = (kind: Golden, name: string, type: 'F64' | 'F8_E8M0' | 'Q4_0' | 'I32') => {
    const file = fileOf(kind)
    file.tensors.get(name)!.type = type
    return file
  }

  it.each<[string, () => unknown, string, RegExp]>([
    [
      'a CLIP given as T5',
      () => networkOf('t5', fileOf('clip')),
      'FLUX_BAD_FILE',
      /seems to be a CLIP text encoder, not a T5 text encoder/,
    ],
    [
      'an autoencoder as transformer',
      () => networkOf('flux', fileOf('autoencoder')),
      'FLUX_BAD_FILE',
      /seems to be an autoencoder, not a FLUX transformer/,
    ],
    [
      'a transformer as CLIP',
      () => networkOf('clip', fileOf('flux')),
      'FLUX_BAD_FILE',
      /seems to be a FLUX transformer/,
    ],
    [
      'a T5 as autoencoder',
      () => networkOf('autoencoder', fileOf('t5')),
      'FLUX_BAD_FILE',
      /seems to be a T5 text encoder/,
    ],
    [
      'something unknown',
      () => networkOf('t5', modelFileOf([{ name: 'x', shape: [1] }])),
      'FLUX_BAD_FILE',
      /none of its 1 tensors has a known name/,
    ],
    [
      'another transformer of diffusers',
      () => networkOf('flux', modelFileOf([{ name: 'transformer_blocks.0.attn.to_q.weight', shape: [2, 2] }])),
      'FLUX_UNSUPPORTED',
      /this is a transformer in the names of diffusers; a FLUX transformer is needed/,
    ],
    ...[
      'transformer.x.lora_A.weight',
      'double_blocks.0.processor.qkv_lora1.down.weight',
      'lycoris_x.hada_w1_a',
      'diffusion_model.x.diff_b',
      'lora_te1_x.w_norm',
    ].map((name): [string, () => unknown, string, RegExp] => [
      `a LoRA with ${name}`,
      () => networkOf('flux', modelFileOf([{ name, shape: [2, 2] }])),
      'FLUX_UNSUPPORTED',
      /a LoRA or a similar addition/,
    ]),
    [
      'a missing tensor',
      () => networkOf('flux', without('flux', 'txt_in.bias')),
      'FLUX_BAD_FILE',
      /model.gguf: tensor txt_in.bias is missing/,
    ],
    [
      'missing tensors',
      () => networkOf('flux', without('flux', 'txt_in.bias', 'img_in.bias')),
      'FLUX_BAD_FILE',
      /tensor img_in.bias and 1 more are missing/,
    ],
    [
      'an unknown tensor',
      () => networkOf('flux', modelFileOf([...tensorsOf('flux'), { name: 'extra', shape: [1] }])),
      'FLUX_UNSUPPORTED',
      /tensor extra is unknown/,
    ],
    [
      'a wrong shape',
      () => networkOf('flux', reshaped('flux', 'single_blocks.1.linear2.weight', [256, 1024])),
      'FLUX_BAD_FILE',
      /single_blocks.1.linear2.weight has shape \[256, 1024\], but the others ask for \[256, 1280\]/,
    ],
    [
      'a matrix in 8-bit exponents',
      () => networkOf('flux', retyped('flux', 'img_in.weight', 'F8_E8M0')),
      'FLUX_UNSUPPORTED',
      /img_in.weight has type F8_E8M0; tensors of the role matrix may be F32/,
    ],
    [
      'a quantised bias',
      () => networkOf('flux', retyped('flux', 'img_in.bias', 'Q4_0')),
      'FLUX_UNSUPPORTED',
      /tensors of the role bias may be F32, F16, BF16/,
    ],
    [
      'a quantised convolution',
      () => networkOf('autoencoder', retyped('autoencoder', 'decoder.conv_in.weight', 'Q4_0')),
      'FLUX_UNSUPPORTED',
      /tensors of the role convolution may be/,
    ],
    [
      'a norm of doubles',
      () => networkOf('t5', retyped('t5', 'encoder.final_layer_norm.weight', 'F64')),
      'FLUX_UNSUPPORTED',
      /tensors of the role norm may be/,
    ],
    [
      'a part of a split GGUF',
      () => networkOf('t5', fileOf('t5', { metadata: { 'split.count': 2 } })),
      'FLUX_UNSUPPORTED',
      /one of 2 parts/,
    ],
    [
      'two names of one tensor',
      () => networkOf('t5', modelFileOf([...tensorsOf('t5'), { name: 'token_embd.weight', shape: [512, 256] }])),
      'FLUX_BAD_FILE',
      /tensors shared.weight and token_embd.weight are the same tensor/,
    ],
  ])('refuses %s', (_, run, code, message) => fails(run, code, message))
})

describe('openNetworkFile', () => {
  it('opens a file, with overrides', async () => {
    const path = join(folder, 'clip.gguf')
    await writeModelFile(
      path,
      tensorsOf('clip').map(({ name, shape }) => ({
        name,
        shape,
        type: 'F32',
        data: new Uint8Array(4 * shape.reduce((product, dimension) => product * dimension, 1)),
      })),
    )
    const { config, file, tensors } = await openNetworkFile('clip', { path, config: { numHeads: 4 } })
    expect(config).toEqual({
      hiddenSize: 128,
      numHeads: 4,
      numLayers: 3,
      intermediateSize: 512,
      vocabSize: 600,
      maxPositions: 77,
    })
    expect(file.path).toBe(path)
    expect(tensors[0]).toEqual({
      name: 'text_model.embeddings.token_embedding.weight',
      type: 0,
      shape: [128, 600],
      pieces: [{ file: 0, offset: file.tensors.values().next().value!.offset, bytes: 128 * 600 * 4 }],
    })
    await expect(openNetworkFile('t5', path)).rejects.toMatchObject({ code: 'FLUX_BAD_FILE' })
  })

  it('refuses a source that is no path', async () => {
    await expect(openNetworkFile('t5', { path: 5 } as never)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await expect(openNetworkFile('t5', null as never)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })
})
