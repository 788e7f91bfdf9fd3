import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { imageIds, packLatents } from '../../lib/families/flux1/tokens.js'
import { appendRedux, FluxTransformer, type PredictInput, type ReduxImage } from '../../lib/nn.js'
import { onTestBackend } from '../support/backend.js'
import { goldenIo, goldenWeights } from '../support/golden.js'
import { relL2 } from '../support/safetensors.js'

const io = goldenIo('redux')
const floats = (name: string) => io.get(name)!.data as Float32Array
const WIDTH = 256

let flux: FluxTransformer
beforeAll(async () => {
  flux = await FluxTransformer.load(await goldenWeights('flux-dev-tiny'), onTestBackend)
})
afterAll(() => flux?.close())

const [, , height, width] = io.get('in.noise')!.shape as [number, number, number, number]
const tokens = floats('out.projected')
const input = (change: Partial<PredictInput> = {}): PredictInput => ({
  img: packLatents(floats('in.noise'), height, width),
  imgIds: imageIds(height / 2, width / 2),
  txt: floats('in.txt'),
  vec: floats('in.vec'),
  timestep: floats('const.timestep')[0]!,
  guidance: floats('const.guidance')[0]!,
  ...change,
})
const predict = (...images: ReduxImage[]) => flux.predict(input(appendRedux(floats('in.txt'), images, WIDTH)))

describe('a bias', () => {
  test('of strength 1 is none, to the bit', async () => {
    expect(await predict({ tokens, strengthType: 'attn_bias' })).toEqual(await predict({ tokens }))
  })

  test('of strength 0 hides the image: as if it were not there', async () => {
    const hidden = await predict({ tokens, strength: 0, strengthType: 'attn_bias' })
    const absent = await predict()
    // with another number of tokens sums are ordered differently, which GELU's table turns into the next entry
    expect(relL2(hidden, absent)).toBeLessThan(1e-3)
    expect(relL2(absent, floats('out.pred_strength_1'))).toBeGreaterThan(0.01)
  })

  test('is gone in the next call without one', async () => {
    const plain = await predict({ tokens })
    await predict({ tokens, strength: 0.5, strengthType: 'attn_bias' })
    expect(await predict({ tokens })).toEqual(plain)
  })
})

test.each<[Partial<PredictInput>, RegExp]>([
  [{ textBias: 3 as never }, /textBias is 3: give an array of \{ first, count, strength \}/],
  [{ textBias: [{ first: 9, count: 1, strength: 2 }] }, /textBias\[0\]\.first is 9: give a whole number from 0 to 8/],
  [{ textBias: [{ first: 4, count: 6, strength: 2 }] }, /textBias\[0\]\.count is 6: give a whole number from 1 to 5/],
  [{ textBias: [{ first: 0, count: 9, strength: NaN }] }, /textBias\[0\]\.strength is NaN: give a number from 0 to 10/],
  [{ textBias: [{ first: 0, count: 9, strength: 11 }] }, /strength is 11/],
  [{ textBias: [{ first: 0, count: 9, strenght: 1 } as never] }, /there is no strenght in textBias\[0\]/],
])('refuses %o', async (change, message) => {
  await expect(flux.predict(input(change))).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: expect.stringMatching(message) as string,
  })
})

test.each<[ReduxImage, string, RegExp]>([
  [{ tokens, strength: 10.5 }, 'FLUX_BAD_OPTION', /images\[0\]\.strength is 10.5: give a number from 0 to 10/],
  [
    { tokens, strengthType: 'add' as never },
    'FLUX_BAD_OPTION',
    /images\[0\]\.strengthType is 'add': give one of multiply, attn_bias/,
  ],
  [{ tokens: tokens.slice(1) }, 'FLUX_BAD_SHAPE', /images\[0\]\.tokens has 4095 numbers; whole rows of 256/],
])('an image that cannot be appended: %o', (image, code, message) => {
  expect(() => appendRedux(floats('in.txt'), [image], WIDTH)).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
  )
})
