import { setTimeout as after } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Variant } from '../../../lib/families/family.js'
import { blurMask, growMask, type Mask } from '../../../lib/images/edit-mask.js'
import { pasteBack } from '../../../lib/images/only-masked.js'
import type { ImageSettings } from '../../../lib/pipeline/image-options.js'
import { prepareImages } from '../../../lib/pipeline/prepare-images.js'

const variant = { latent: { sizeMultiple: 16 }, defaults: { width: 64, height: 64 } } as Variant

const settings: ImageSettings = {
  image: undefined,
  mask: undefined,
  controlImage: undefined,
  strength: 1,
  convention: 'diffusers',
  maskBlur: 0,
  maskGrow: 0,
  onlyMasked: undefined,
  extend: undefined,
  referenceImages: [],
  referencePlacement: 'offset',
  controlNets: [],
  redux: [],
  ipAdapters: [],
  resize: 'cover',
}

const grey = (side: number) => ({ data: new Uint8Array(side * side * 3).fill(128), width: side, height: side })

/** white in a square in the middle */
function square(side: number, white: number): Mask {
  const data = new Uint8Array(side * side)
  const begin = (side - white) / 2
  for (let y = begin; y < begin + white; y++) data.fill(255, y * side + begin, y * side + begin + white)
  return { data, width: side, height: side }
}

const prepare = (own: Partial<ImageSettings>, signal = new AbortController().signal) =>
  prepareImages({ ...settings, ...own }, variant, { width: undefined, height: undefined, signal })

test('the mask is grown and blurred, and the result pasted back through it', async () => {
  const mask = square(60, 20)
  const prepared = await prepare({ image: grey(60), mask, maskGrow: 4, maskBlur: 3 })
  const soft = blurMask(growMask(mask, 4), 3)
  expect([prepared.width, prepared.height, prepared.mask!.width]).toEqual([64, 64, 64])
  const drawn = { data: new Uint8Array(64 * 64 * 3).fill(250), width: 64, height: 64 }
  const cropped = { data: new Uint8Array(60 * 60 * 3).fill(250), width: 60, height: 60 }
  const whole = { x: 0, y: 0, width: 60, height: 60 }
  for (let twice = 0; twice < 2; twice++)
    expect(await prepared.finish(drawn)).toEqual(pasteBack(grey(60), cropped, whole, soft))
})

test.each([{ extend: undefined }, { extend: { left: 8, right: 0, top: 0, bottom: 0 } }])(
  'a mask that nothing is left of is refused: %o',
  async ({ extend }) => {
    await expect(prepare({ image: grey(64), mask: square(64, 20), maskGrow: -10, extend })).rejects.toMatchObject({
      code: 'FLUX_BAD_OPTION',
      message: expect.stringMatching(/^maskGrow -10 makes the mask empty/),
    })
    expect((await prepare({ image: grey(64), mask: square(64, 20), maskGrow: -9 })).mask).toEqual(square(64, 2))
  },
)

test('a blur that leaves nothing is refused as well', async () => {
  await expect(prepare({ image: grey(64), mask: square(64, 2), maskBlur: 40 })).rejects.toMatchObject({
    code: 'FLUX_BAD_OPTION',
    message: expect.stringMatching(/^maskBlur 40 makes the mask empty/),
  })
})

describe('large images', { timeout: 120_000 }, () => {
  const SIDE = 3000
  const large = { image: grey(SIDE), mask: square(SIDE, 500), maskGrow: 256, maskBlur: 100 }
  const extend = { left: 1000, right: 0, top: 0, bottom: 0 }

  // the computations take seconds, and copies of the pixels some milliseconds
  test('do not block the event loop', { retry: 2 }, async () => {
    let [longest, last] = [0, performance.now()]
    const ticks = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 10)
    try {
      const { finish } = await prepare({ ...large, extend, onlyMasked: 32 })
      const { width, height } = await finish(grey(64))
      expect([width, height]).toEqual([SIDE + 1000, SIDE])
      expect(longest).toBeLessThan(600)
    } finally {
      clearInterval(ticks)
    }
  })

  test('an abort is heard at once, whatever the thread does', async () => {
    const reason = new Error('enough')
    const { finish } = await prepare({ image: grey(SIDE), mask: square(SIDE, 500), onlyMasked: 32 })
    for (const delay of [0, 100, 500]) {
      const controller = new AbortController()
      const prepared = prepare(large, controller.signal)
      await Promise.race([prepared, after(delay)])
      controller.abort(reason)
      const aborted = performance.now()
      await expect(prepared).rejects.toBe(reason)
      expect(performance.now() - aborted).toBeLessThan(300)
    }
    // the thread is still there for others
    expect((await finish(grey(64))).width).toBe(SIDE)
  })

  test('an abort while the result is pasted back is heard at once', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const { finish } = await prepare({ image: grey(SIDE), mask: square(SIDE, 500), onlyMasked: 32 }, controller.signal)
    const finished = finish(grey(64))
    controller.abort(reason)
    await expect(finished).rejects.toBe(reason)
  })
})
