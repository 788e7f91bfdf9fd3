import { describe, expect, it } from 'vitest'
import { RRDB } from '../../../../lib/networks/rrdb/definition.js'
import { rrdbLayout, scaleOf, type RrdbConfig } from '../../../../lib/networks/rrdb/layout.js'
import { networkOf, networksIn } from '../../../../lib/networks/network-file.js'
import { goldenRecipe } from '../../../support/golden.js'
import { modelFileOf } from '../../../support/model-files.js'

const TINY = RRDB.examples['rrdb-tiny']!
const sum = (config: RrdbConfig) =>
  rrdbLayout(config).reduce((total, { shape }) => total + shape.reduce((a, b) => a * b, 1), 0)
const refusal = (tensors: Parameters<typeof modelFileOf>[0]) => {
  try {
    return networkOf('rrdb', modelFileOf(tensors)).config
  } catch (error) {
    return error
  }
}

describe('RRDBNet', () => {
  it('has the published sizes', () => {
    // the files of RealESRGAN_x4plus, RealESRGAN_x2plus and RealESRGAN_x4plus_anime_6B
    expect(sum(RRDB.examples['rrdb-x4']!)).toBe(16_697_987)
    expect(sum(RRDB.examples['rrdb-x2']!)).toBe(16_703_171)
    expect(sum(RRDB.examples['rrdb-anime']!)).toBe(4_467_779)
  })

  it.each([
    ['rrdb-x4-tiny', { ...TINY }],
    ['rrdb-x2-tiny', { ...TINY, unshuffle: 2 }],
    ['rrdb-x1-tiny', { ...TINY, unshuffle: 4 }],
    ['rrdb-trunk-tiny', { ...TINY, blocks: 1 }],
    ['rrdb-old-x1-tiny', { ...TINY, blocks: 1, growth: 32, doublings: 0 }],
    ['rrdb-old-x2-tiny', { ...TINY, blocks: 1, growth: 32, doublings: 1 }],
    ['rrdb-old-x4-tiny', { ...TINY, blocks: 1, growth: 32 }],
    ['rrdb-old-x8-tiny', { ...TINY, blocks: 1, growth: 32, doublings: 3 }],
  ] as const)('reads the configuration of %s from the names and shapes of its program', (model, expected) => {
    const { tensors } = goldenRecipe(model)
    const file = modelFileOf(tensors)
    expect(networksIn(file)).toEqual(['rrdb'])
    const { config, tensors: native } = networkOf('rrdb', file)
    expect(config).toEqual(expected)
    expect(native.map(({ name }) => name)).toEqual(rrdbLayout(expected).map(({ name }) => name))
    const scale = Number(/x(\d)/.exec(model)?.[1] ?? 4)
    expect(scaleOf(config)).toBe(scale)
  })

  it.each(['params_ema.', 'params.', 'module.'])('reads names with the prefix %s', (prefix) => {
    const tensors = rrdbLayout(TINY).map((tensor) => ({ ...tensor, name: prefix + tensor.name }))
    expect(networkOf('rrdb', modelFileOf(tensors)).config).toEqual(TINY)
  })

  it('of two sets of weights takes the averaged ones', () => {
    const both = ['params_ema.', 'params.'].flatMap((prefix) =>
      rrdbLayout(TINY).map((tensor) => ({ ...tensor, name: prefix + tensor.name })),
    )
    const pieces = (tensors: typeof both) => networkOf('rrdb', modelFileOf(tensors)).tensors.map((one) => one.pieces)
    expect(pieces(both)).toEqual(pieces(both.slice(0, both.length / 2)))
    expect(pieces(both.toReversed())).not.toEqual(pieces(both))
  })

  it('counts operations', () => {
    // of each pixel: 2 x the weights before the doublings, and 4 and 16 times as many of those after them
    const weights = (name: RegExp) =>
      rrdbLayout(TINY)
        .filter((tensor) => tensor.role === 'convolution' && name.test(tensor.name))
        .reduce((total, { shape }) => total + shape.reduce((a, b) => a * b, 1), 0)
    const [before, up1, after] = [
      weights(/^(body|conv_first|conv_body)/),
      weights(/^conv_up1/),
      weights(/^conv_(up2|hr|last)/),
    ]
    expect(RRDB.flops(TINY, [3, 5]).products).toBe(2 * 15 * (before + 4 * up1 + 16 * after))
  })

  it('refuses what it does not read, and says which tensor shows it', () => {
    const changed = (name: string, shape: number[]) =>
      rrdbLayout(TINY).map((tensor) => (tensor.name === name ? { ...tensor, shape } : tensor))
    expect(refusal(changed('conv_first.weight', [16, 1, 3, 3]))).toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringMatching(/conv_first\.weight takes 1 channels; expected 3, or 12 or 48/) as string,
    })
    expect(refusal(changed('conv_hr.weight', [16, 16, 1, 1]))).toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringMatching(/conv_hr\.weight has shape \[16, 16, 1, 1\], but the others ask for/) as string,
    })
    expect(refusal(changed('conv_first.weight', [16, 27]))).toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringMatching(/4 dimensions are expected/) as string,
    })
    expect(refusal(rrdbLayout({ ...TINY, unshuffle: 4, doublings: 1 }))).toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringMatching(/makes images 0\.5 times as large; expected 1, 2, 4 or 8/) as string,
    })
    const without = (name: string) => rrdbLayout(TINY).filter((tensor) => !tensor.name.startsWith(name))
    expect(refusal(without('conv_last'))).toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringMatching(/conv_last\.weight and 1 more are missing/) as string,
    })
    expect(refusal([{ name: 'body.0.weight', shape: [64, 3, 3, 3] }])).toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringMatching(/none of its 1 tensors has a known name, not a network that enlarges/) as string,
    })
    const swin = { name: 'params_ema.layers.0.residual_group.blocks.0.norm1.weight', shape: [180] }
    expect(refusal([swin])).toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringMatching(/of the structure of SwinIR or HAT/) as string,
    })
  })
})
