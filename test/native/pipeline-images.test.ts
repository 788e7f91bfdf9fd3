import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readImage } from '../../lib/images/read-image.js'
import { readParameters } from '../../lib/images/read-parameters.js'
import { resizeImage } from '../../lib/images/resize.js'
import { openNetworkFile } from '../../lib/networks/network-file.js'
import { RRDB } from '../../lib/networks/rrdb/definition.js'
import { Upscaler } from '../../lib/nn.js'
import { upscaleImage } from '../../lib/index.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import type { FluxPipeline } from '../../lib/pipeline/pipeline.js'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import { synthesize } from '../../lib/tools/synth/synth.js'
import { collect } from '../support/async.js'
import { onTestBackend } from '../support/backend.js'
import { heldOutPrompts, some, verdict, type Prompt } from '../support/judge/trial.js'
import { loadTiny, streamed } from '../support/tiny.js'

const SIDE = 128
const folder = mkdtempSync(join(tmpdir(), 'ggflux-images-'))
afterAll(() => rmSync(folder, { recursive: true }))
let pipe: FluxPipeline
beforeAll(async () => {
  pipe = await loadTiny()
})
afterAll(() => pipe?.close())

const draw = (options: Omit<GenerateOptions, 'count'>) => pipe.generate({ format: 'raw', seed: 5, ...options })
const raw = (data: Uint8Array, width = SIDE, height = SIDE) => ({ data: new Uint8Array(data), width, height })

/** root mean square of the difference of bytes */
function apart(a: Uint8Array, b: Uint8Array): number {
  expect(a.length).toBe(b.length)
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0) / a.length)
}

/** white in a rectangle */
function mask(left: number, top: number, width: number, height: number) {
  const data = new Uint8Array(SIDE * SIDE)
  for (let y = top; y < top + height; y++) data.fill(255, y * SIDE + left, y * SIDE + left + width)
  return raw(data)
}

const SQUARE = 'a large blue square on a white background'
const CIRCLE = 'a large red circle on a white background'

describe.each(['diffusers', 'comfyui'] as const)('from an image, by the convention of %s', (convention) => {
  test('strength 1 ignores the image, and less keeps more and more of it', async () => {
    const image = raw(await draw({ prompt: SQUARE, seed: 1 }))
    const text = await draw({ prompt: CIRCLE })
    expect((await draw({ prompt: CIRCLE, image, strength: 1, convention })).equals(text)).toBe(true)
    const distances = []
    for (const strength of [0.3, 0.6, 0.9])
      distances.push(apart(await draw({ prompt: CIRCLE, image, strength, convention }), image.data))
    const [little, more, most] = distances as [number, number, number]
    expect(little).toBeLessThan(0.7 * more)
    expect(more).toBeLessThan(most)
  })

  test('outside the mask nothing changes, and inside is what the prompt says', { timeout: 120_000 }, async () => {
    // a thing in the middle is replaced by another
    const prompts = some(heldOutPrompts().single, 10)
    let right = 0
    for (const [i, prompt] of prompts.entries()) {
      const other = prompts[(i + 3) % prompts.length]!
      const image = raw(await draw({ prompt: other.prompt, seed: 1000 + i }))
      const everything = mask(8, 8, 112, 112)
      const drawn = await draw({ prompt: prompt.prompt, image, mask: everything, strength: 1, convention })
      for (let y = 0; y < SIDE; y++)
        for (const x of y < 8 || y >= 120 ? [0, 60, 127] : [0, 7, 120, 127])
          for (let c = 0; c < 3; c++) expect(drawn[3 * (y * SIDE + x) + c]).toBe(image.data[3 * (y * SIDE + x) + c])
      right += Number(shows(drawn, prompt))
    }
    expect(right).toBeGreaterThanOrEqual(6)
  })

  /** the thing in its colour; the background keeps the old one at the edge */
  const shows = (rgb: Uint8Array, prompt: Prompt): boolean => {
    const { things } = verdict(rgb, SIDE, SIDE, prompt, 0).agreement
    return things.every(({ shape, color }) => shape && color)
  }
})

test('only the masked part, larger: the rest stays, and the part changes', async () => {
  const image = raw(await draw({ prompt: SQUARE, seed: 1 }))
  const part = mask(40, 40, 40, 40)
  const drawn = await draw({ prompt: CIRCLE, image, mask: part, onlyMasked: { padding: 8 }, strength: 1 })
  let changed = 0
  for (let i = 0; i < drawn.length; i++) {
    if (drawn[i] === image.data[i]) continue
    changed++
    expect(part.data[Math.floor(i / 3)]).toBe(255)
  }
  expect(changed).toBeGreaterThan(3 * 40 * 40 * 0.3)
})

test('a soft mask is blended: at its edge the result lies between', async () => {
  const image = raw(new Uint8Array(3 * SIDE * SIDE).fill(255))
  const drawn = await draw({
    prompt: 'a large red circle on a black background',
    image,
    mask: mask(32, 32, 64, 64),
    maskBlur: 6,
    strength: 1,
  })
  // row 64 from the left: white, then darker and darker
  const row = Array.from({ length: 64 }, (_, x) => drawn[3 * (64 * SIDE + x) + 2]!)
  expect(row.slice(0, 8).every((value) => value === 255)).toBe(true)
  expect(row[31]!).toBeLessThan(250)
  expect(row[31]!).toBeGreaterThan(60)
})

test('sizes that are no multiple of 16 come back as they were; more at the sides with extend', async () => {
  const image = raw(new Uint8Array(3 * 130 * 77).fill(200), 130, 77)
  const event = await streamed(pipe, { prompt: CIRCLE, image, strength: 0.5, seed: 1, format: 'raw' })
  expect([event.width, event.height, event.image.length]).toEqual([130, 77, 3 * 130 * 77])
  const wider = await streamed(pipe, {
    prompt: CIRCLE,
    image,
    extend: { left: 30 },
    strength: 1,
    seed: 1,
    format: 'raw',
  })
  expect([wider.width, wider.height]).toEqual([160, 77])
  for (let y = 0; y < 77; y++) for (let x = 30; x < 160; x++) expect(wider.image[3 * (y * 160 + x)]).toBe(200)
})

test('guidance that acts in no step is reported', async () => {
  const warnings: string[] = []
  const own = { steps: 2, negativePrompt: 'red', trueCfg: { scale: 3, end: 0.4 } }
  await draw({ prompt: CIRCLE, width: 64, height: 64, ...own, onWarning: (message) => void warnings.push(message) })
  expect(warnings).toEqual([expect.stringMatching(/^trueCfg does nothing: none of the 2 steps/)])
})

test('a large image is drawn at the size of the model, with a warning', async () => {
  const image = raw(new Uint8Array(3 * 400 * 200).fill(90), 400, 200)
  const events = await collect(pipe.stream({ prompt: CIRCLE, image, strength: 0.3, seed: 1, format: 'raw' }))
  const warnings = events.flatMap((event) => (event.type === 'warning' ? [event.message] : []))
  expect(warnings).toEqual([expect.stringMatching(/image of 400 x 200 is drawn at 192 x 96; give width and height/)])
  expect(events.at(-1)).toMatchObject({ width: 192, height: 96 })
})

test('reference images change the result, and the order of events has the stage encode', async () => {
  const image = raw(await draw({ prompt: SQUARE, seed: 1 }))
  const events = await collect(pipe.stream({ prompt: CIRCLE, referenceImages: [image], seed: 5, format: 'raw' }))
  expect(
    events.flatMap((event) => (event.type === 'stage' ? [event.stage] : [])).filter((stage) => stage !== 'load'),
  ).toEqual(['text', 'encode', 'denoise', 'decode'])
  const drawn = events.at(-1) as { image: Buffer }
  expect(apart(drawn.image, await draw({ prompt: CIRCLE }))).toBeGreaterThan(1)
})

test('several images of one call are those of its seeds', async () => {
  const [first, second, third] = await pipe.generate({ prompt: CIRCLE, seed: 5, count: 3, format: 'raw' })
  for (const [image, seed] of [
    [first, 5],
    [second, 6],
    [third, 7],
  ] as const)
    expect(image!.equals(await draw({ prompt: CIRCLE, seed }))).toBe(true)
  const events = await collect(pipe.stream({ prompt: CIRCLE, seed: 5, count: 2 }))
  expect(events.flatMap((event) => (event.type === 'image' ? [[event.index, event.seed]] : []))).toEqual([
    [0, 5],
    [1, 6],
  ])
})

describe('variations', () => {
  test.each(['euler', 'euler_ancestral'] as const)(
    '%s: from the image of one seed to that of another',
    async (sampler) => {
      const [one, other] = [await draw({ prompt: CIRCLE, sampler }), await draw({ prompt: CIRCLE, sampler, seed: 9 })]
      const at = (strength: number) => draw({ prompt: CIRCLE, sampler, variation: { seed: 9, strength } })
      expect((await at(0)).equals(one)).toBe(true)
      expect((await at(1)).equals(other)).toBe(true)
      const [little, much] = [await at(0.05), await at(0.95)]
      expect(apart(little, one)).toBeGreaterThan(0)
      expect(apart(little, one)).toBeLessThan(apart(little, other))
      expect(apart(much, other)).toBeLessThan(apart(much, one))
    },
  )

  test('of several images the second seed counts up, and it is recorded', async () => {
    const variation = { seed: 9, strength: 1 }
    const events = await collect(pipe.stream({ prompt: CIRCLE, seed: 5, count: 2, variation, format: 'raw' }))
    const images = events.filter((event) => event.type === 'image')
    for (const [index, { image, seed, parameters }] of images.entries()) {
      expect(image.equals(await draw({ prompt: CIRCLE, seed: 9 + index }))).toBe(true)
      expect(seed).toBe(5)
      expect(parameters).toContain(`, Seed: 5, `)
      expect(parameters).toContain(`, Variation seed: ${9 + index}, Variation seed strength: 1, `)
    }
    expect(images).toHaveLength(2)
    const file = await pipe.generate({ prompt: CIRCLE, seed: 5, variation: { seed: 9, strength: 0.25 } })
    expect((await readParameters(file))!.options).toMatchObject({ seed: 5, variation: { seed: 9, strength: 0.25 } })
    const plain = await pipe.generate({ prompt: CIRCLE, seed: 5, variation: { seed: 9, strength: 0 } })
    expect((await readParameters(plain))!.options).not.toHaveProperty('variation')
  })
})

describe('hires', () => {
  const small = { prompt: CIRCLE, width: 64, height: 64, steps: 4 }

  test('an enlarged image is refined as an image to start from is', async () => {
    for (const convention of ['diffusers', 'comfyui'] as const) {
      const first = raw(await draw(small), 64, 64)
      const image = await resizeImage(first, 128, 96, 'cover')
      const expected = await draw({ ...small, width: 128, height: 96, image, strength: 0.75, convention })
      const hires = { width: 128, height: 96, strength: 0.75, upscale: 'image' } as const
      expect((await draw({ ...small, convention, hires })).equals(expected)).toBe(true)
    }
  })

  test('a network enlarges the image, in place of Lanczos, and its name is recorded', async () => {
    const upscaler = join(folder, 'rrdb-tiny.safetensors')
    await synthesize({ architecture: 'rrdb-tiny', type: 'F32', seed: 5, path: upscaler })
    const first = raw(await draw(small), 64, 64)
    const image = await resizeImage(await upscaleImage(first, upscaler, onTestBackend), 128, 96, 'cover')
    const expected = await draw({ ...small, width: 128, height: 96, image, strength: 0.75 })
    const hires = { width: 128, height: 96, strength: 0.75 }
    const drawn = await pipe.generate({ ...small, seed: 5, hires: { ...hires, upscaler } })
    expect(Buffer.from((await readImage(drawn)).data).equals(expected)).toBe(true)
    const { options, unmapped } = (await readParameters(drawn))!
    expect(options.hires).toEqual({ ...hires, upscale: 'image' })
    expect(unmapped).toMatchObject({ 'Hires upscaler': 'rrdb-tiny' })
    const other = tinyModelFiles().vae
    await expect(draw({ ...small, hires: { ...hires, upscaler: other } })).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringMatching(/seems to be an autoencoder, not a network that enlarges images/) as string,
    })
  })

  test('an enlarged latent keeps what was drawn, the more the lower the strength', async () => {
    const first = await resizeImage(raw(await draw(small), 64, 64), 128, 128, 'cover')
    const at = (strength: number) => draw({ ...small, steps: 8, hires: { scale: 2, strength } })
    const [little, all] = [await at(0.25), await at(1)]
    expect(apart(little, first.data)).toBeLessThan(0.7 * apart(all, first.data))
    expect(all.equals(await draw({ ...small, steps: 8, width: 128, height: 128 }))).toBe(true)
  })

  test('the steps of both passes are counted, and previews have their sizes', async () => {
    const hires = { scale: 1.5, strength: 0.5, steps: 6, upscale: 'image' } as const
    const job = pipe.submit({ ...small, seed: 5, format: 'raw', hires, preview: {} })
    const [seen, progress]: [unknown[], number[]] = [[], []]
    for await (const event of job.events()) {
      progress.push(job.progress)
      if (event.type === 'stage' && event.stage !== 'load') seen.push(event.stage)
      if (event.type === 'step') seen.push([event.step, event.steps, event.preview!.width])
    }
    const steps = (from: number, to: number, width: number) =>
      Array.from({ length: to - from + 1 }, (_, i) => [from + i, 7, width])
    expect(seen).toEqual([
      'text',
      'denoise',
      ...steps(1, 4, 8),
      'decode',
      'encode',
      'denoise',
      ...steps(5, 7, 12),
      'decode',
    ])
    expect(progress).toEqual(progress.toSorted((a, b) => a - b))
    expect(await job.result).toMatchObject({ width: 96, height: 96 })
  })

  test('with references and true CFG, and the parameters come back', async () => {
    const referenceImages = [raw(await draw({ prompt: SQUARE, seed: 1 }))]
    const hires = { scale: 2, strength: 0.5, steps: 2, upscale: 'latent' } as const
    const guidance = { negativePrompt: 'blue', trueCfg: 2 }
    const options = { ...small, ...guidance, steps: 2, seed: 5, hires }
    const plain = await pipe.generate(options)
    const guided = await pipe.generate({ ...options, referenceImages })
    expect(guided.equals(plain)).toBe(false)
    const { options: restored } = (await readParameters(plain))!
    expect(restored).toMatchObject({ ...small, ...guidance, steps: 2, seed: 5, hires })
    expect(await pipe.generate({ ...restored, prompt: CIRCLE })).toEqual(plain)
    const sized = { width: 64, height: 80, strength: 0.75, upscale: 'image' } as const
    const { options: again } = (await readParameters(await pipe.generate({ ...small, hires: sized })))!
    expect(again.hires).toEqual(sized)
  })

  test('the size is that of a control image, times the scale', async () => {
    const referenceImages = [raw(new Uint8Array(3 * 64 * 80).fill(90), 64, 80)]
    const hires = { width: 80, height: 96 }
    const event = await streamed(pipe, { prompt: CIRCLE, steps: 1, seed: 1, referenceImages, hires, format: 'raw' })
    expect([event.width, event.height]).toEqual([80, 96])
    const less = pipe.generate({ prompt: CIRCLE, steps: 1, referenceImages, hires: { width: 64, height: 64 } })
    await expect(less).rejects.toThrow(/^hires\.height is 64: give a multiple of 16 from 80 to 4096/)
  })

  test('an estimate counts both passes', async () => {
    const [first, second, both] = [
      await pipe.estimate({ width: 64, height: 64, steps: 4 }),
      await pipe.estimate({ width: 128, height: 128, steps: 4 }),
      await pipe.estimate({ width: 64, height: 64, steps: 4, hires: { strength: 1 } }),
    ]
    expect(both.operations.step).toBeCloseTo((first.operations.step + second.operations.step) / 2, 0)
    expect(both.operations.decode).toBe(second.operations.decode)
    expect(both.memory).toEqual(second.memory)
    const image = await pipe.estimate({ width: 64, height: 64, steps: 4, hires: { strength: 0.5, upscale: 'image' } })
    expect(image.operations.step).toBeCloseTo((2 * first.operations.step + second.operations.step) / 3, 0)
    expect(image.operations.decode).toBe(first.operations.decode + second.operations.decode)
    const upscaler = join(folder, 'rrdb-estimated.safetensors')
    await synthesize({ architecture: 'rrdb-x4', config: { blocks: 1 }, type: 'F16', path: upscaler })
    const hires = { strength: 0.5, upscaler }
    const network = await pipe.estimate({ width: 64, height: 64, steps: 4, hires })
    const { config } = await openNetworkFile('rrdb', upscaler)
    const { products } = RRDB.flops(config, [64, 64])
    expect(network.operations.decode).toBe(image.operations.decode + products)
    // more than the tiny model takes
    const activations = await Upscaler.activationBytes(upscaler, 64, 64, onTestBackend)
    expect(network.memory.activations).toBe(activations)
    expect(network.memory.weights).toBeGreaterThan(first.memory.weights)
    expect(
      await pipe.estimate({ width: 64, height: 64, steps: 4, hires: { ...hires, upscaler: 'hf:a/b:x4' } }),
    ).toEqual(expect.objectContaining({ operations: image.operations }))
  })
})

describe('the options are those at the call', () => {
  const small = { prompt: CIRCLE, width: 64, height: 64, steps: 2, seed: 3, format: 'raw' } as const
  const start = () =>
    raw(
      new Uint8Array(3 * 64 * 64).map((_, i) => (i * 7) % 251),
      64,
      64,
    )

  test('whatever is changed while the image waits', async () => {
    const expected = await pipe.generate({ ...small, image: start(), strength: 0.5 })
    const options = { ...small, image: start(), strength: 0.5, width: 64 as number }
    const waiting = [pipe.generate(options), pipe.generate(options)]
    Object.assign(options, { prompt: SQUARE, steps: NaN, width: 96 })
    options.image.data.fill(0)
    options.image.width = 3
    for (const image of await Promise.all(waiting)) expect(image.equals(expected)).toBe(true)
  })

  test('also inherited ones', async () => {
    const image = start()
    const inherited = Object.create({ ...small, image, strength: 0.5 }) as GenerateOptions
    expect((await pipe.generate(inherited)).equals(await pipe.generate({ ...small, image, strength: 0.5 }))).toBe(true)
  })
})

test.each([
  ['the width alone', { width: 96 }, 180, 120, [96, 64]],
  ['the height alone', { height: 96 }, 120, 80, [144, 96]],
  ['none, and the image is very long', {}, 8000, 1, [4096, 64]],
])('of a size %s: the other side follows the image', async (_, size, width, height, expected) => {
  const options = { prompt: CIRCLE, image: raw(new Uint8Array(3 * width * height), width, height), ...size }
  if (width > 4096) {
    const { operations } = await pipe.estimate({ image: options.image })
    const wide = await pipe.estimate({ width: expected[0]!, height: expected[1]! })
    expect(operations.step).toBe(wide.operations.step)
    return
  }
  const event = await streamed(pipe, { ...options, steps: 2, seed: 1, format: 'raw' })
  expect([event.width, event.height]).toEqual(expected)
})

test('an estimate reads the images and counts what they cost', async () => {
  const image = raw(new Uint8Array(3 * SIDE * SIDE))
  const plain = await pipe.estimate({ width: SIDE, height: SIDE })
  const kontext = await pipe.estimate({ width: SIDE, height: SIDE, referenceImages: [image] })
  expect(kontext.operations.step).toBeGreaterThan(1.5 * plain.operations.step)
  expect(kontext.memory.activations).toBeGreaterThanOrEqual(plain.memory.activations)
})

describe('wrong inputs are refused before any work', () => {
  const image = raw(new Uint8Array(3 * SIDE * SIDE))
  const broken = join(folder, 'broken.png')
  writeFileSync(broken, Buffer.from('89504e470d0a1a0a0000000d49484452000075300000753008020000', 'hex'))
  test.each<[string, object, string, RegExp]>([
    [
      'a mask of another size',
      { image, mask: raw(new Uint8Array(64 * 64), 64, 64) },
      'FLUX_BAD_OPTION',
      /mask is 64 x 64, but image is 128 x 128/,
    ],
    ['an empty mask', { image, mask: raw(new Uint8Array(SIDE * SIDE)) }, 'FLUX_BAD_OPTION', /mask is empty/],
    ['a mask without an image', { mask: mask(0, 0, 9, 9) }, 'FLUX_BAD_OPTION', /mask is given without image/],
    ['strength without an image', { strength: 0.5 }, 'FLUX_BAD_OPTION', /strength is given without image/],
    ['strength 0', { image, strength: 0 }, 'FLUX_BAD_OPTION', /strength is 0/],
    ['strength NaN', { image, strength: NaN }, 'FLUX_BAD_OPTION', /strength is NaN/],
    [
      'a control image for a model without control',
      { controlImage: image },
      'FLUX_BAD_OPTION',
      /controlImage is given, but the model reads none/,
    ],
    ['onlyMasked without a mask', { image, onlyMasked: true }, 'FLUX_BAD_OPTION', /onlyMasked is given without mask/],
    ['holes in a list', { controlNets: Array(2) }, 'FLUX_BAD_OPTION', /^controlNets\[0\] is undefined/],
    ['nine references', { referenceImages: Array(9).fill(image) }, 'FLUX_BAD_OPTION', /an array of at most 8/],
    [
      'a ControlNet that is another network',
      { controlNets: [{ path: tinyModelFiles().clip, image }] },
      'FLUX_(BAD_FILE|UNSUPPORTED)',
      /clip\.gguf/,
    ],
    ['a ControlNet that is missing', { controlNets: [{ path: 'none', image }] }, 'FLUX_NOT_FOUND', /none/],
    ['Redux without its networks', { redux: [{ image }] }, 'FLUX_BAD_OPTION', /the model has no siglip/],
    [
      'an IP-Adapter without its vision tower',
      { ipAdapters: [{ path: 'x', image }] },
      'FLUX_BAD_OPTION',
      /the model has no clipVision/,
    ],
    ['hires from an image', { image, hires: {} }, 'FLUX_BAD_OPTION', /hires is given next to image/],
    ['nothing to extend', { image, extend: {} }, 'FLUX_BAD_OPTION', /extend is/],
    ['an unknown side', { image, extend: { up: 5 } }, 'FLUX_BAD_OPTION', /there is no up in extend/],
    [
      'a negative prompt without guidance',
      { negativePrompt: 'red' },
      'FLUX_BAD_OPTION',
      /negativePrompt has no effect while trueCfg is 1/,
    ],
    [
      'guidance that ends before it starts',
      { trueCfg: { scale: 2, start: 0.8, end: 0.2 } },
      'FLUX_BAD_OPTION',
      /end is 0.2/,
    ],
    ['no images', { count: 0 }, 'FLUX_BAD_OPTION', /count is 0/],
    ['a missing file', { image: join(folder, 'none.png') }, 'FLUX_NOT_FOUND', /none\.png/],
    ['30,000 x 30,000 pixels, truncated', { image: broken }, 'FLUX_(UNSUPPORTED|BAD_FILE)', /broken\.png/],
    ['bytes that are no image', { image: new Uint8Array(64) }, 'FLUX_BAD_FILE', /not an image file/],
    [
      'pixels that are missing',
      { image: { data: new Uint8Array(9), width: 5, height: 5, channels: 3 } },
      'FLUX_BAD_SHAPE',
      /image\.data has 9 values/,
    ],
  ])('%s', async (_, options, code, message) => {
    await expect(
      pipe.generate({ prompt: CIRCLE, ...options } as GenerateOptions & { count: undefined }),
    ).rejects.toMatchObject({
      code: expect.stringMatching(code),
      message: expect.stringMatching(message),
    })
  })

  test('the pipeline goes on', async () => {
    expect((await draw({ prompt: CIRCLE })).length).toBe(3 * SIDE * SIDE)
  })
})

describe('the options in an image give the same image again', () => {
  const image = (width: number, height: number) =>
    raw(
      new Uint8Array(3 * width * height).map((_, i) => (i * 7) % 251),
      width,
      height,
    )
  const part = (width: number, height: number) => {
    const data = new Uint8Array(width * height)
    for (let y = 8; y < 40; y++) data.fill(255, y * width + 8, y * width + 40)
    return raw(data, width, height)
  }

  // what is given each time; the size that is given once
  test.each<[string, Partial<GenerateOptions>, object, string]>([
    ['of a size of its own', { image: image(100, 75) }, {}, '100x75'],
    ['with one side that is a multiple of 16', { image: image(112, 75) }, {}, '112x75'],
    ['smaller than any drawing', { image: image(40, 48) }, {}, '40x48'],
    ['extended', { image: image(100, 75), extend: { right: 28 } }, {}, '128x75'],
    ['with a mask', { image: image(128, 96), mask: part(128, 96) }, {}, '128x96'],
    ['at a size that is given', { image: image(100, 75) }, { width: 96, height: 64 }, '96x64'],
    ['of one side that is given', { image: image(100, 75) }, { width: 96 }, '96x80'],
    [
      'of a part that is drawn larger',
      { image: image(100, 75), mask: part(100, 75), onlyMasked: { padding: 0 } },
      { width: 128, height: 96 },
      '128x96',
    ],
    [
      'of a part whose drawing has another aspect',
      { image: image(160, 48), mask: part(160, 48), onlyMasked: { padding: 40 } },
      { width: 64, height: 128 },
      '64x128',
    ],
  ])('%s', async (_, given, size, recorded) => {
    const options = { ...given, strength: 0.5, convention: 'comfyui' } as const
    const first = await pipe.generate({ ...options, ...size, prompt: CIRCLE, steps: 2, seed: 3 })
    const { options: restored, text } = (await readParameters(first))!
    expect(text).toContain(`, Size: ${recorded}, `)
    expect((await pipe.generate({ ...given, ...restored, prompt: CIRCLE })).equals(first)).toBe(true)
  })
})
