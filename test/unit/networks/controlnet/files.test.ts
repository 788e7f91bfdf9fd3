import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { writeModelFile } from '../../../../lib/formats/write-model-file.js'
import { inspect } from '../../../../lib/inspect/file.js'
import { CONTROLNET } from '../../../../lib/networks/controlnet/definition.js'
import { controlNetConfig, controlNetLayout } from '../../../../lib/networks/controlnet/layout.js'
import { CONTROL_MODES } from '../../../../lib/networks/controlnet/modes.js'
import { fluxLayout } from '../../../../lib/networks/flux/layout.js'
import { FLUX } from '../../../../lib/networks/flux/definition.js'
import { ipAdapterConfig, ipAdapterLayout } from '../../../../lib/networks/ip-adapter/layout.js'
import { identify, networkOf, networksIn } from '../../../../lib/networks/network-file.js'
import { synthesize } from '../../../../lib/tools/synth/synth.js'
import { goldenRecipe, type GoldenModel } from '../../../support/golden.js'
import { modelFileOf } from '../../../support/model-files.js'

const folder = mkdtempSync(join(tmpdir(), 'ggflux-controlnet-files-'))
afterAll(() => rmSync(folder, { recursive: true }))

const shapesOf = (tensors: { name: string; shape: number[] }[]) => tensors.map(({ name, shape }) => ({ name, shape }))
const goldenFile = (model: GoldenModel) => modelFileOf(shapesOf(goldenRecipe(model).tensors))

// configurations as the golden data's README gives them
const TRUNK = {
  inChannels: 64,
  hiddenSize: 256,
  numHeads: 2,
  depth: 2,
  depthSingleBlocks: 0,
  contextInDim: 256,
  vecInDim: 128,
  guidanceEmbed: true,
  axesDim: [16, 56, 56],
  theta: 10000,
  condChannels: 64,
  modes: 0,
  rgb: false,
  mistoline: false,
}

describe('ControlNets', () => {
  it.each([
    ['controlnet-union-tiny', { ...TRUNK, depthSingleBlocks: 2, modes: 10 }],
    ['controlnet-tiny', TRUNK],
    ['controlnet-xlabs-tiny', { ...TRUNK, rgb: true }],
  ] as const)('reads %s', (model, expected) => {
    const file = goldenFile(model)
    expect(networksIn(file)).toEqual(['controlnet'])
    expect(networkOf('controlnet', file).config).toEqual(expected)
    expect(controlNetConfig(new Map(controlNetLayout(expected as never).map((t) => [t.name, t])))).toEqual(expected)
  })

  it('lists the tensors of official files in their order', () => {
    const { tensors } = goldenRecipe('controlnet-xlabs-tiny')
    expect(shapesOf(controlNetLayout({ ...TRUNK, rgb: true } as never))).toEqual(shapesOf(tensors))
  })

  it("reads ComfyUI's names, and Mistoline's own", () => {
    const union = { ...TRUNK, depthSingleBlocks: 2, modes: 10 }
    expect(networkOf('controlnet', modelFileOf(controlNetLayout(union as never))).config).toEqual(union)
    const mistoline = { ...TRUNK, depth: 3, depthSingleBlocks: 2, rgb: true, mistoline: true }
    const rename = (name: string) => name.replace('controlnet_single_blocks', 'single_controlnet_blocks')
    const file = modelFileOf(controlNetLayout(mistoline as never), { rename })
    expect(file.tensors.has('single_controlnet_blocks.1.linear.weight')).toBe(true)
    expect(file.tensors.get('input_cond_block.encoder.16.weight')!.shape).toEqual([16, 16, 1, 1])
    expect(networkOf('controlnet', file).config).toEqual(mistoline)
  })

  it('is no transformer, and a transformer is none', () => {
    const fails = (run: () => unknown, message: RegExp) =>
      expect(run).toThrowError(
        expect.objectContaining({ code: 'FLUX_BAD_FILE', message: expect.stringMatching(message) }),
      )
    for (const model of ['controlnet-union-tiny', 'controlnet-tiny', 'controlnet-xlabs-tiny'] as const)
      fails(
        () => networkOf('flux', goldenFile(model)),
        /this seems to be a ControlNet for FLUX\.1, not a FLUX transformer/,
      )
    const transformer = modelFileOf(fluxLayout(FLUX.examples['flux-tiny']!))
    expect(networksIn(transformer)).toEqual(['flux'])
    fails(() => networkOf('controlnet', transformer), /this seems to be a FLUX transformer, not a ControlNet/)
  })

  it('names what is missing', () => {
    const { tensors } = goldenRecipe('controlnet-tiny')
    const without = (name: string) => modelFileOf(shapesOf(tensors.filter((tensor) => !tensor.name.startsWith(name))))
    expect(() => networkOf('controlnet', without('controlnet_blocks.1.'))).toThrow(
      /tensor controlnet_blocks\.1\.weight and 1 more are missing/,
    )
    expect(() => networkOf('controlnet', without('controlnet_x_embedder.'))).toThrow(
      /pos_embed_input\.weight is missing/,
    )
  })

  // names of the published files: diffusers `controlnet_sd3.py`, `controlnet.py`, `controlnet_qwenimage.py`; lllyasviel/ControlNet
  it.each([
    [
      ['pos_embed_input.proj.weight', 'controlnet_blocks.0.weight', 'transformer_blocks.0.norm1_context.linear.weight'],
      'a ControlNet for Stable Diffusion 3',
    ],
    [
      [
        'controlnet_cond_embedding.conv_in.weight',
        'controlnet_down_blocks.0.weight',
        'down_blocks.0.attentions.0.norm.weight',
      ],
      'a ControlNet for Stable Diffusion 1, 2 or XL',
    ],
    [
      ['control_model.input_hint_block.0.weight', 'control_model.zero_convs.0.0.weight'],
      'a ControlNet for Stable Diffusion 1, 2 or XL',
    ],
    [
      [
        'controlnet_x_embedder.weight',
        'controlnet_blocks.0.weight',
        'transformer_blocks.0.img_mod.1.weight',
        'transformer_blocks.0.attn.to_q.weight',
      ],
      'a ControlNet, but not for FLUX.1',
    ],
  ])('%s: of another family', (names, label) => {
    const file = modelFileOf(names.map((name) => ({ name, shape: [8, 8] })))
    expect(identify(file)).toEqual({ label, foreign: true })
    expect(() => networkOf('controlnet', file)).toThrowError(
      expect.objectContaining({
        code: 'FLUX_UNSUPPORTED',
        message: expect.stringContaining(`this is ${label}; a ControlNet for FLUX.1 is needed`),
      }),
    )
  })

  it("has FLUX's modes, not those of ComfyUI's menu", () => {
    expect(Object.fromEntries(CONTROL_MODES.map((mode, row) => [mode, row]))).toEqual({
      canny: 0,
      tile: 1,
      depth: 2,
      blur: 3,
      pose: 4,
      gray: 5,
      'low-quality': 6,
    })
  })
})

describe('IP-Adapters', () => {
  it.each([
    ['ip-adapter-v1-tiny', 4],
    ['ip-adapter-v2-tiny', 16],
  ] as const)('%s', (model, numTokens) => {
    const config = { clipEmbeddingsDim: 48, numTokens, contextDim: 256, hiddenSize: 256, depth: 3 }
    const file = goldenFile(model)
    expect(networksIn(file)).toEqual(['ip-adapter'])
    expect(networkOf('ip-adapter', file).config).toEqual(config)
    expect(shapesOf(ipAdapterLayout(config))).toEqual(shapesOf(goldenRecipe(model).tensors))
    expect(ipAdapterConfig(file.tensors)).toEqual(config)
  })

  it('refuses a projection that makes no whole tokens', () => {
    const tensors = shapesOf(goldenRecipe('ip-adapter-v1-tiny').tensors).map((tensor) =>
      tensor.name === 'ip_adapter_proj_model.proj.weight' ? { ...tensor, shape: [1000, 48] } : tensor,
    )
    expect(() => networkOf('ip-adapter', modelFileOf(tensors))).toThrow(
      /numTokens is 3.90625; supported is a whole number/,
    )
  })
})

describe('inspect and synth', () => {
  const described = async (name: string, tensors: { name: string; shape: number[] }[]) => {
    const path = join(folder, `${name}.safetensors`)
    const zeros = shapesOf(tensors).map((tensor) => ({
      ...tensor,
      type: 'BF16' as const,
      data: new Uint8Array(2 * tensor.shape.reduce((a, b) => a * b, 1)),
    }))
    await writeModelFile(path, zeros)
    return inspect(path)
  }

  it.each([
    ['controlnet-union-tiny', 'controlnet', 'ControlNet for FLUX.1 (union of 10 modes, 2 + 2 blocks)'],
    ['controlnet-tiny', 'controlnet', 'ControlNet for FLUX.1 (one kind of control image, 2 + 0 blocks)'],
    ['controlnet-xlabs-tiny', 'controlnet', 'ControlNet for FLUX.1 (XLabs, 2 + 0 blocks)'],
    ['ip-adapter-v2-tiny', 'ip-adapter', "XLabs' IP-Adapter for FLUX.1 (16 tokens, 3 blocks)"],
  ] as const)('%s', async (model, role, architecture) => {
    const { tensors, parameters } = goldenRecipe(model)
    expect(await described(model, tensors)).toMatchObject({ role, architecture, parameters, problems: [] })
  })

  it.each(['flux-controlnet-tiny', 'flux-ip-adapter-tiny'])('%s is written and read', async (architecture) => {
    const path = join(folder, `${architecture}.gguf`)
    const { parameters } = await synthesize({ architecture, path, type: 'BF16' })
    expect(await inspect(path)).toMatchObject({ parameters, problems: [] })
  })

  it('the examples have the structure that their names say', () => {
    const { describe: text, examples } = CONTROLNET
    expect(Object.entries(examples).map(([name, config]) => [name, text!(config)])).toEqual([
      ['flux-controlnet-union', 'ControlNet for FLUX.1 (union of 10 modes, 5 + 10 blocks)'],
      ['flux-controlnet-union-pro-2', 'ControlNet for FLUX.1 (one kind of control image, 6 + 0 blocks)'],
      ['flux-controlnet-inpainting', 'ControlNet for FLUX.1 (inpainting, 6 + 0 blocks)'],
      ['flux-controlnet-xlabs', 'ControlNet for FLUX.1 (XLabs, 2 + 0 blocks)'],
      ['flux-controlnet-mistoline', 'ControlNet for FLUX.1 (Mistoline, 3 + 2 blocks)'],
      ['flux-controlnet-tiny', 'ControlNet for FLUX.1 (union of 10 modes, 2 + 2 blocks)'],
    ])
  })
})
