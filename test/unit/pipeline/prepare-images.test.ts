import { setTimeout as after } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Variant } from '../../../lib/families/family.js'
import { blurMask, growMask, type Mask } from '../../../lib/images/edit-mask.js'
import { pasteBack } from '../../../lib/images/only-masked.js'
import { resizeImage } from '../../../lib/images/resize.js'
import type { ImageSettings } from '../../../lib/pipeline/image-options.js'
import { prepareImages } from '../../../lib/pipeline/prepare-images.js'
import { seeded } from '../../support/judge/scenes.js'

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

/** white in a band across the middle */
function band(width: number, height: number): Mask {
  const data = new Uint8Array(width * height)
  data.fill(255, width * Math.floor(height / 3), width * Math.floor((2 * height) / 3))
  return { data, width, height }
}

const prepare = (
  own: Partial<ImageSettings>,
  signal = new AbortController().signal,
  size: { width?: number; height?: number } = {},
) => prepareImages({ ...settings, ...own }, variant, { width: size.width, height: size.height, signal })

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

test('an image and a mask that have the size already', async () => {
  const size = { width: 64, height: 64, signal: new AbortController().signal }
  const prepared = await prepareImages({ ...settings, image: grey(64), mask: square(64, 20) }, variant, size)
  expect([prepared.start!.data, prepared.mask]).toEqual([grey(64).data, square(64, 20)])
})

describe('only the masked part', () => {
  /** brightness 2 x + y, so that scales along both sides can be measured */
  const slope = (width: number, height: number) => ({
    data: Uint8Array.from({ length: 3 * width * height }, (_, i) => {
      const pixel = Math.floor(i / 3)
      return 2 * (pixel % width) + Math.floor(pixel / width)
    }),
    width,
    height,
  })
  const box = (width: number, height: number, part: { x: number; y: number; width: number; height: number }): Mask => {
    const data = new Uint8Array(width * height)
    for (let y = part.y; y < part.y + part.height; y++)
      data.fill(255, y * width + part.x, y * width + part.x + part.width)
    return { data, width, height }
  }

  // sizes of the image and of the part; the size that is asked for, and that of the drawing
  test.each([
    ['no room above and below', [90, 30], [4, 2, 80, 26], [96, 96], [160, 64]],
    ['no room at the sides', [30, 90], [2, 4, 26, 80], [128, 64], [64, 160]],
    ['room', [90, 60], [30, 20, 30, 20], [96, 64], [96, 64]],
    ['an image that is drawn at its own size', [80, 60], [0, 0, 80, 60], [], [80, 64]],
  ] as const)('is not distorted: %s', async (_, [w, h], [x, y, width, height], [wide, high], size) => {
    const image = slope(w, h)
    const mask = box(w, h, { x, y, width, height })
    const signal = new AbortController().signal
    const own = { ...settings, image, mask, onlyMasked: 0 }
    const prepared = await prepareImages(own, { ...variant, defaults: { width: 96, height: 96 } } as Variant, {
      width: wide,
      height: high,
      signal,
    })
    expect([prepared.width, prepared.height]).toEqual(size)
    const start = prepared.start!
    expect([start.width, start.height, prepared.mask!.width, prepared.mask!.height]).toEqual([...size, ...size])
    const at = (column: number, row: number) => start.data[3 * (row * start.width + column)]!
    // away from the padding
    const [across, down] = [at(40, 8) - at(8, 8), at(8, 40) - at(8, 8)]
    expect(across / 2 / down).toBeGreaterThan(0.9)
    expect(across / 2 / down).toBeLessThan(1.1)
    // what is drawn goes back to where it was
    const finished = await prepared.finish({ data: new Uint8Array(start.data), width: size[0], height: size[1] })
    expect([finished.width, finished.height]).toEqual([w, h])
    const worst = finished.data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - image.data[i]!)), 0)
    expect(worst).toBeLessThan(5)
  })
})

describe('control images show what the image shows', () => {
  const random = seeded(1)
  const photo = (width: number, height: number) => ({
    data: Uint8Array.from({ length: 3 * width * height }, () => Math.floor(256 * random())),
    width,
    height,
  })
  const net = (image: ImageSettings['image']) => ({ path: 'x', image: image!, scale: 1, start: 0, end: 1 })

  test.each([
    ['the whole image', photo(64, 64), {}],
    ['a padded image', photo(60, 41), {}],
    ['the masked part', photo(100, 100), { mask: square(100, 20), onlyMasked: 7 }],
    [
      'the masked part, where the image has no room for the aspect',
      photo(300, 60),
      { mask: band(300, 60), onlyMasked: 0 },
    ],
  ] as const)('%s', async (_, image, own) => {
    const { start, inputs } = await prepare({ image, controlImage: image, controlNets: [net(image)], ...own })
    expect(inputs.control).toEqual(start)
    expect(inputs.controlNets![0]!.image).toEqual(start)
  })

  test.each(['cover', 'contain', 'stretch'] as const)('the whole image at another size: %s', async (resize) => {
    const image = photo(100, 60)
    const own = { image, controlImage: image, controlNets: [net(image)], resize }
    const { start, inputs } = await prepare(own, undefined, { width: 64, height: 64 })
    expect(inputs.control).toEqual(start)
    expect(inputs.controlNets![0]!.image).toEqual(start)
  })

  test('one of another size is brought to the size of the image first', async () => {
    const image = photo(100, 100)
    const large = await resizeImage(image, 200, 200, 'stretch')
    const again = await resizeImage(large, 100, 100, 'stretch')
    const own = { mask: square(100, 20), onlyMasked: 7 }
    const { inputs } = await prepare({ image, controlNets: [net(large)], ...own })
    expect(inputs.controlNets![0]!.image).toEqual((await prepare({ image: again, ...own })).start)
  })

  test('one that was made for the drawing is taken as it is', async () => {
    const [image, control] = [photo(100, 60), photo(64, 64)]
    const { inputs } = await prepare({ image, controlImage: control }, undefined, { width: 64, height: 64 })
    expect(inputs.control).toEqual(control)
  })

  test('one of another aspect is cut to that of the image', async () => {
    const [image, tall] = [photo(100, 60), photo(60, 100)]
    const size = { width: 64, height: 64 }
    const { inputs } = await prepare({ image, controlNets: [net(tall)] }, undefined, size)
    const aligned = await resizeImage(tall, 100, 60, 'cover')
    expect(inputs.controlNets![0]!.image).toEqual((await prepare({ image: aligned }, undefined, size)).start)
  })

  test('without an image they are brought to the drawing', async () => {
    const { inputs } = await prepare({ controlImage: photo(100, 60) }, undefined, { width: 64, height: 32 })
    expect([inputs.control!.width, inputs.control!.height]).toEqual([64, 32])
  })

  test('one that is refused is named', async () => {
    const own = { image: photo(100, 100), mask: square(100, 20), onlyMasked: 7, resize: 'none' as const }
    await expect(prepare({ ...own, controlNets: [net(photo(64, 64))] })).rejects.toThrow(
      /^controlNets\[0\]\.image is 64 x 64, which resize 'none' does not change: give one of 100 x 100/,
    )
    await expect(prepare({ ...own, controlImage: photo(64, 64) })).rejects.toThrow(/^controlImage is 64 x 64/)
    expect((await prepare({ ...own, controlImage: own.image })).inputs.control).toBeDefined()
  })

  test('one of the size before extend is refused', async () => {
    const own = { image: photo(64, 48), extend: { left: 0, right: 32, top: 0, bottom: 16 } }
    await expect(prepare({ ...own, controlImage: photo(64, 48) })).rejects.toThrow(
      /^controlImage is 64 x 48, the size before extend: give one of 96 x 64/,
    )
    const control = photo(96, 64)
    expect((await prepare({ ...own, controlImage: control })).inputs.control).toEqual(control)
  })
})

test('the size of the drawing is no matter for a warning where only a part is drawn', async () => {
  const image = grey(300)
  expect((await prepare({ image })).warnings).toHaveLength(1)
  expect((await prepare({ image, mask: square(300, 20), onlyMasked: 7 })).warnings).toEqual([])
})

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
