import { describe, expect, it } from 'vitest'
import { autoencoderConfig, autoencoderLayout } from '../../../lib/networks/autoencoder/layout.js'
import { clipConfig, clipLayout } from '../../../lib/networks/clip/layout.js'
import { CLIP_VISION } from '../../../lib/networks/clip-vision/definition.js'
import { clipVisionConfig, clipVisionLayout } from '../../../lib/networks/clip-vision/layout.js'
import { fluxConfig, fluxLayout, type FluxConfig } from '../../../lib/networks/flux/layout.js'
import { REDUX } from '../../../lib/networks/redux/definition.js'
import { reduxConfig, reduxLayout } from '../../../lib/networks/redux/layout.js'
import { SIGLIP } from '../../../lib/networks/siglip/definition.js'
import { siglipConfig, siglipLayout } from '../../../lib/networks/siglip/layout.js'
import { t5Config, t5Layout } from '../../../lib/networks/t5/layout.js'
import { goldenRecipe } from '../../support/golden.js'
import { modelFileOf, parameters } from '../../support/model-files.js'

const FLUX_DEV: FluxConfig = {
  inChannels: 64,
  outChannels: 64,
  hiddenSize: 3072,
  numHeads: 24,
  depth: 19,
  depthSingleBlocks: 38,
  contextInDim: 4096,
  vecInDim: 768,
  guidanceEmbed: true,
  axesDim: [16, 56, 56],
  theta: 10000,
}
const T5_XXL = {
  dModel: 4096,
  dKv: 64,
  numHeads: 64,
  dFf: 10240,
  numLayers: 24,
  vocabSize: 32128,
  numBuckets: 32,
  maxDistance: 128,
}
const CLIP_L = {
  hiddenSize: 768,
  numHeads: 12,
  numLayers: 12,
  intermediateSize: 3072,
  vocabSize: 49408,
  maxPositions: 77,
}
const AUTOENCODER = {
  ch: 128,
  chMult: [1, 2, 4, 4],
  numResBlocks: 2,
  zChannels: 16,
  scaleFactor: 0.3611,
  shiftFactor: 0.1159,
  hasEncoder: true,
  hasDecoder: true,
}

// configurations as the golden data's README gives them
const FLUX_TINY = {
  ...FLUX_DEV,
  hiddenSize: 256,
  numHeads: 2,
  depth: 2,
  depthSingleBlocks: 2,
  contextInDim: 256,
  vecInDim: 128,
}
const GOLDEN = [
  ['flux-dev-tiny', FLUX_TINY, fluxConfig, fluxLayout],
  ['flux-schnell-tiny', { ...FLUX_TINY, depth: 1, depthSingleBlocks: 3, guidanceEmbed: false }, fluxConfig, fluxLayout],
  [
    't5-tiny',
    { ...T5_XXL, dModel: 256, dKv: 32, numHeads: 8, dFf: 512, numLayers: 3, vocabSize: 512 },
    t5Config,
    t5Layout,
  ],
  [
    'clip-tiny',
    { ...CLIP_L, hiddenSize: 128, numHeads: 2, numLayers: 3, intermediateSize: 512, vocabSize: 600 },
    clipConfig,
    clipLayout,
  ],
  ['ae-tiny', { ...AUTOENCODER, ch: 32 }, autoencoderConfig, autoencoderLayout],
  ['redux-tiny', { reduxDim: 64, txtInFeatures: 256 }, reduxConfig, reduxLayout],
] as const

// The reference's towers have 4 heads, which shapes do not show.
const VISION = {
  hiddenSize: 64,
  numHeads: 4,
  numLayers: 2,
  imageSize: 56,
  patchSize: 14,
}
const TOWERS = [
  ['siglip-tiny', { ...VISION, intermediateSize: 176 }, siglipConfig, siglipLayout, /^vision_model\.head\./],
  [
    'clip-vision-tiny',
    { ...VISION, intermediateSize: 256, projectionDim: 48 },
    clipVisionConfig,
    clipVisionLayout,
    /^none/,
  ],
] as const

describe('layouts', () => {
  it.each(GOLDEN)(
    'lists the tensors of %s and reads its configuration from them',
    (model, expected, config, layout) => {
      const { tensors } = goldenRecipe(model)
      const { tensors: infos } = modelFileOf(tensors)
      const read = config(infos)
      expect(read).toEqual(expected)
      expect(layout(read as never).map(({ name, shape }) => ({ name, shape }))).toEqual(
        tensors.map(({ name, shape }) => ({ name, shape })),
      )
    },
  )

  it.each(TOWERS)('lists the tensors of %s but for the pooling head', (model, expected, config, layout, unused) => {
    const used = goldenRecipe(model).tensors.filter(({ name }) => !unused.test(name))
    const read = config(modelFileOf(used).tensors, { numHeads: 4 })
    expect(read).toEqual(expected)
    expect(layout(read as never).map(({ name, shape }) => ({ name, shape }))).toEqual(
      used.map(({ name, shape }) => ({ name, shape })),
    )
  })

  it.each([SIGLIP, CLIP_VISION, REDUX])('reads the published configuration of $kind back', (definition) => {
    const full = Object.values(definition.examples)[0] as never
    expect(definition.readConfig(modelFileOf(definition.layout(full)).tensors)).toEqual(full)
  })

  it('adds up to the published sizes', () => {
    // the files of google/siglip-so400m-patch14-384 (its tower has 428,225,600 with the pooling head), openai/clip-vit-large-patch14 (its
    // vision half with the projection) and FLUX.1 Redux
    const head = 1152 + 4 * (1152 * 1152 + 1152) + 2 * 1152 + 2 * 1152 * 4304 + 4304 + 1152
    expect(parameters(siglipLayout(SIGLIP.examples['siglip-so400m']!)) + head).toBe(428_225_600)
    expect(parameters(clipVisionLayout(CLIP_VISION.examples['clip-vision-l']!))).toBe(303_966_208)
    expect(parameters(reduxLayout(REDUX.examples.redux!))).toBe(64_503_808)
    expect(parameters(fluxLayout(FLUX_DEV))).toBe(11_901_408_320)
    expect(parameters(fluxLayout({ ...FLUX_DEV, guidanceEmbed: false }))).toBe(11_891_178_560)
    expect(parameters(t5Layout(T5_XXL))).toBe(4_762_310_656)
    expect(parameters(clipLayout(CLIP_L))).toBe(123_060_480)
    expect(parameters(autoencoderLayout(AUTOENCODER))).toBe(83_819_683)
  })

  it('reads the published configurations back', () => {
    expect(fluxConfig(modelFileOf(fluxLayout(FLUX_DEV)).tensors)).toEqual(FLUX_DEV)
    expect(t5Config(modelFileOf(t5Layout(T5_XXL)).tensors)).toEqual(T5_XXL)
    expect(clipConfig(modelFileOf(clipLayout(CLIP_L)).tensors)).toEqual(CLIP_L)
    expect(autoencoderConfig(modelFileOf(autoencoderLayout(AUTOENCODER)).tensors)).toEqual(AUTOENCODER)
  })

  it.each([{ hasEncoder: false }, { hasDecoder: false }])('reads half an autoencoder: %o', (half) => {
    const config = { ...AUTOENCODER, ...half }
    expect(autoencoderConfig(modelFileOf(autoencoderLayout(config)).tensors)).toEqual(config)
  })

  it('gives the roles that decide about types', () => {
    const roles = Object.fromEntries(fluxLayout(FLUX_TINY).map(({ name, role }) => [name, role]))
    expect(roles['img_in.weight']).toBe('matrix')
    expect(roles['img_in.bias']).toBe('bias')
    expect(roles['single_blocks.0.norm.key_norm.scale']).toBe('norm')
    const convolutions = autoencoderLayout(AUTOENCODER).filter(({ shape }) => shape.length === 4)
    expect(new Set(convolutions.map(({ role }) => role))).toEqual(new Set(['convolution']))
  })
})

describe('configurations', () => {
  const tiny = () => modelFileOf(goldenRecipe('flux-dev-tiny').tensors).tensors
  const fails = (run: () => unknown, code: string, message: RegExp) =>
    expect(run).toThrowError(
      expect.objectContaining({ name: 'FluxError', code, message: expect.stringMatching(message) }),
    )

  it('takes overrides for what shapes cannot tell', () => {
    expect(fluxConfig(tiny(), { axesDim: [32, 48, 48], theta: 2000 })).toEqual({
      ...FLUX_TINY,
      axesDim: [32, 48, 48],
      theta: 2000,
    })
    expect(fluxConfig(tiny(), { hiddenSize: 256 })).toEqual(FLUX_TINY)
    const clip = modelFileOf(goldenRecipe('clip-tiny').tensors).tensors
    expect(clipConfig(clip, { numHeads: 4 }).numHeads).toBe(4)
    fails(
      () => clipConfig(clip, { numHeads: 3 }),
      'FLUX_BAD_OPTION',
      /numHeads is 3; it has to divide the hidden size, 128/,
    )
  })

  it('takes the side of an image and heads for a vision tower, if they fit the patches', () => {
    const { tensors } = modelFileOf(goldenRecipe('siglip-tiny').tensors)
    expect(siglipConfig(tensors, { numHeads: 4, imageSize: 69 }).imageSize).toBe(69)
    for (const imageSize of [55, 70])
      fails(
        () => siglipConfig(tensors, { imageSize }),
        'FLUX_BAD_OPTION',
        /config.imageSize is \d+; 4 patches of 14 pixels need 56 to 69/,
      )
    fails(() => siglipConfig(tensors, { numHeads: 3 }), 'FLUX_BAD_OPTION', /numHeads is 3; it has to divide .* 64/)
  })

  it.each<[Record<string, unknown>, RegExp]>([
    [{ hidden: 256 }, /config.hidden is unknown. The fields are inChannels/],
    [{ toString: 1 }, /config.toString is unknown/],
    [{ theta: '1e4' }, /config.theta is "1e4"; it has to be a number from 1/],
    [{ theta: NaN }, /config.theta is null; it has to be a number/],
    [{ guidanceEmbed: 1 }, /it has to be true or false/],
    [{ axesDim: [16, 56] }, /it has to be a list of 3 whole numbers/],
    [{ axesDim: [17, 55, 56] }, /a multiple of 2/],
    [{ axesDim: [16, 16, 16] }, /with the sum 48; the sum has to be the head dimension, 128/],
    [{ hiddenSize: 512 }, /config.hiddenSize is 512, but the file's tensors say 256/],
    [{ depth: 1.5 }, /config.depth is 1.5; it has to be a whole number from 1 to 256/],
  ])('refuses the override %o', (override, message) => {
    fails(() => fluxConfig(tiny(), override), 'FLUX_BAD_OPTION', message)
  })

  it('asks for the axes of another head dimension', () => {
    const small = { ...FLUX_TINY, hiddenSize: 128, axesDim: [16, 24, 24] as [number, number, number] }
    const { tensors } = modelFileOf(fluxLayout(small))
    fails(() => fluxConfig(tensors), 'FLUX_BAD_OPTION', /config.axesDim cannot be read from the file/)
    expect(fluxConfig(tensors, { axesDim: [16, 24, 24] })).toEqual(small)
  })

  it('names the first missing tensor of a gap', () => {
    const gap = [...tiny().values()].map((tensor) => ({
      ...tensor,
      name: tensor.name.replace('double_blocks.1.', 'double_blocks.3.'),
    }))
    fails(() => fluxConfig(modelFileOf(gap).tensors), 'FLUX_BAD_FILE', /double_blocks.1.img_mod.lin.weight is missing/)
  })

  it.each<[string, Partial<FluxConfig>, RegExp]>([
    [
      'a hidden size of 32768',
      { hiddenSize: 32768, numHeads: 256 },
      /hiddenSize is 32768; supported is a whole number from 64 to 16384/,
    ],
    ['300 blocks', { depth: 300 }, /depth is 300/],
    ['a head that does not divide', { hiddenSize: 320, numHeads: 2.5 }, /numHeads is 2.5/],
  ])('refuses %s', (_, change, message) => {
    fails(() => fluxConfig(modelFileOf(fluxLayout({ ...FLUX_TINY, ...change })).tensors), 'FLUX_UNSUPPORTED', message)
  })

  it('refuses channels that the norms cannot group', () => {
    const { tensors } = modelFileOf(autoencoderLayout({ ...AUTOENCODER, ch: 48 }))
    fails(
      () => autoencoderConfig(tensors),
      'FLUX_UNSUPPORTED',
      /ch is 48; supported is a whole number from 32 to 1024, a multiple of 32/,
    )
  })
})
