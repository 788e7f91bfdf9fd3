import { writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { FluxError } from '../../../lib/errors.js'
import { encodeImage } from '../../../lib/images/encode.js'
import { formatParameters } from '../../../lib/images/infotext.js'
import { readParameters } from '../../../lib/images/read-parameters.js'
import { restoreOptions } from '../../../lib/images/restore-options.js'
import { SAMPLERS } from '../../../lib/sampling/samplers.js'
import { SCHEDULERS } from '../../../lib/sampling/schedule.js'
import { stopwatch } from '../../support/clock.js'
import { makePng } from '../../support/png.js'
import { temporaryFolder } from '../../support/temporary.js'

const folder = temporaryFolder()
const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/images/${name}`, import.meta.url))

const dot = { width: 1, height: 1, depth: 8, colourType: 0, rows: [[0]] }
const pngWith = (type: string, data: string | Uint8Array) =>
  makePng({ ...dot, chunks: [{ type, data: typeof data === 'string' ? Buffer.from(data) : data }] })
const pngOf = (parameters: string) => pngWith('iTXt', `parameters\0\0\0\0\0${parameters}`)
const comfy = (nodes: Record<string, [string, object]>) => {
  const entries = Object.entries(nodes).map(([id, [class_type, inputs]]) => [id, { class_type, inputs }])
  return pngWith('tEXt', `prompt\0${JSON.stringify(Object.fromEntries(entries))}`)
}

describe('what ggflux writes comes back', () => {
  const made = {
    prompt: '一只狐狸, "quoted": a fox\nin two lines',
    steps: 4,
    sampler: 'euler',
    scheduler: 'official',
    guidance: 3.5,
    seed: 2 ** 53 - 1,
    width: 128,
    height: 96,
  } as const
  const parameters = formatParameters({
    ...made,
    model: 'flux1, dev',
    extra: { LoRA: 'oil paint 0.5 + ink -1', 'Step cache': 0.1 },
  })

  test.each(['png', 'jpeg', 'webp', 'avif'] as const)('%s', async (format) => {
    const file = await encodeImage(new Uint8Array(16 * 16 * 3), 16, 16, { format, parameters })
    expect(await readParameters(file)).toEqual({
      writer: 'ggflux',
      options: { ...made, stepCache: 0.1 },
      loras: [
        { name: 'oil paint', scale: 0.5 },
        { name: 'ink', scale: -1 },
      ],
      unmapped: { Model: 'flux1, dev' },
      text: parameters,
    })
  })

  test('with true CFG and a negative prompt', async () => {
    const text = formatParameters({ ...made, negativePrompt: 'blurry\nlow quality', trueCfg: 2.5 })
    expect((await readParameters(pngOf(text)))!.options).toEqual({
      ...made,
      negativePrompt: 'blurry\nlow quality',
      trueCfg: 2.5,
    })
  })
})

describe('A1111 and Forge', () => {
  test.each(['a1111-itxt.png', 'a1111-itxt-compressed.png', 'a1111.jpg', 'a1111.webp'])('%s', async (name) => {
    const parameters = await readParameters(fixture(name))
    expect(parameters).toMatchObject({
      writer: 'a1111',
      options: {
        prompt: 'a fox,  狐 "quoted"\nin two lines',
        negativePrompt: 'blurry, ugly',
        steps: 20,
        sampler: 'euler',
        scheduler: 'official',
        trueCfg: 3.5,
        guidance: 2.5,
        seed: 2 ** 32 - 1, // of 2^64 - 1 the bits that choose the noise
        width: 896,
        height: 1152,
      },
      loras: [{ name: 'oil paint', scale: 0.8 }],
      unmapped: { 'Model hash': '4610115bb0', Model: 'flux1-dev', 'Lora hashes': 'oil paint: 1234, other: 5678' },
    })
  })

  test('a negative prompt without true CFG had no effect, and is reported', async () => {
    const text = 'a fox\nNegative prompt: ugly\nSteps: 4, Sampler: Euler, CFG scale: 1, Seed: 1, Size: 64x64'
    const { options, unmapped } = (await readParameters(pngOf(text)))!
    expect(options).not.toHaveProperty('negativePrompt')
    expect(unmapped).toEqual({ negativePrompt: 'ugly' })
  })

  test('a text without settings is a prompt', async () => {
    expect(await readParameters(pngOf('a fox: red, white'))).toMatchObject({
      options: { prompt: 'a fox: red, white' },
      unmapped: {},
    })
  })

  test('values that are not valid here are reported', async () => {
    const text = 'a fox\nSteps: 0, Sampler: Fastest, Schedule type: Automatic, CFG scale: x, Seed: -1, Size: 1000x64'
    expect(await readParameters(pngOf(text))).toMatchObject({
      options: { prompt: 'a fox' },
      unmapped: { steps: '0', sampler: 'Fastest', scheduler: 'Automatic', trueCfg: 'x', seed: '-1', width: '1000' },
    })
  })

  test('one side of a size is not taken without the other', async () => {
    const read = await readParameters(pngOf('a fox\nSteps: 4, Seed: 1, Size: 112x75'))
    expect(read!.options).not.toHaveProperty('width')
    expect(read).toMatchObject({ unmapped: { width: '112', height: '75' } })
  })

  test('a variation, and half of one', async () => {
    const text = 'a fox\nSteps: 4, Seed: 1, Variation seed: 18446744073709551615, Variation seed strength: 0.25'
    expect((await readParameters(pngOf(text)))!.options).toMatchObject({
      seed: 1,
      variation: { seed: 2 ** 32 - 1, strength: 0.25 },
    })
    const wrong = await readParameters(pngOf(text.replace('0.25', '1.25')))
    expect(wrong!.options).not.toHaveProperty('variation')
    expect(wrong!.unmapped).toMatchObject({ 'Variation seed strength': '1.25' })
  })

  test('hires, and a strength that belongs to an image', async () => {
    const settings = 'Steps: 20, Seed: 1, Size: 512x768, Denoising strength: 0.45'
    const read = async (more: string) => (await readParameters(pngOf(`a fox\n${settings}${more}`)))!
    const { options, unmapped } = await read(', Hires upscale: 2, Hires steps: 10, Hires upscaler: 4x-UltraSharp')
    expect(options.hires).toEqual({ scale: 2, steps: 10, strength: 0.45, upscale: 'image' })
    expect([options.strength, unmapped]).toEqual([undefined, { 'Hires upscaler': '4x-UltraSharp' }])
    const latent = await read(', Hires resize: 1024x1536, Hires upscaler: Latent')
    expect(latent.options.hires).toEqual({ width: 1024, height: 1536, strength: 0.45, upscale: 'latent' })
    const nearest = await read(', Hires upscale: 2, Hires upscaler: Latent (nearest)')
    expect(nearest.options.hires).toEqual({ scale: 2, strength: 0.45 })
    const plain = await read(', Hires resize: 1000x1536, Shift: 3, CFG scale: 0.5')
    expect(plain).toMatchObject({
      options: { strength: 0.45 },
      unmapped: { 'Hires resize': '1000x1536', Shift: '3', trueCfg: '0.5' },
    })
    expect(plain.options).not.toHaveProperty('hires')
  })

  test('unquoted JSON, and a field by the name of a property', async () => {
    const text = 'a fox\nSteps: 4, Hashes: {"vae": "1", "model": "2"}, __proto__: 7, constructor: 8, Seed: 5'
    const { options, unmapped } = (await readParameters(pngOf(text)))!
    expect(options).toEqual({ prompt: 'a fox', steps: 4, seed: 5 })
    expect(Object.entries(unmapped)).toEqual([
      ['Hashes', '{"vae": "1"'],
      ['__proto__', '7'],
      ['constructor', '8'],
    ])
  })

  test.each([
    ['DPM++ 2M', 'dpmpp_2m', undefined],
    ['DPM++ 2M Karras', 'dpmpp_2m', 'karras'],
    ['DPM++ 2M SDE', 'dpmpp_2m_sde', undefined],
    ['Euler a', 'euler_ancestral', undefined],
    ['UniPC', 'uni_pc', undefined],
    ['DPM2', 'dpm_2', undefined],
    ['toString', 'toString', undefined],
  ])('%s', async (label, sampler, scheduler) => {
    const { options, unmapped } = (await readParameters(
      pngOf(`a fox\nSteps: 4, Sampler: ${label}, Seed: 1, Size: 64x64`),
    ))!
    expect(options.sampler).toBe(Object.hasOwn(SAMPLERS, sampler) ? sampler : undefined)
    expect('sampler' in unmapped).toBe(!Object.hasOwn(SAMPLERS, sampler))
    if (scheduler) expect(options.scheduler ?? unmapped.scheduler?.toLowerCase()).toBe(scheduler)
  })

  test('every sampler and scheduler comes back from its label', () => {
    const names = [
      ...Object.keys(SAMPLERS).map((name) => ['sampler', name]),
      ...Object.keys(SCHEDULERS).map((name) => ['scheduler', name]),
    ]
    for (const [option, name] of names) {
      const found = { [option!]: name!.charAt(0).toUpperCase() + name!.slice(1), loras: [], unmapped: [] }
      expect(restoreOptions(found as any).options).toEqual({ [option!]: name })
    }
  })
})

describe('ComfyUI', () => {
  const expected = {
    prompt: 'a fox "in the snow", seed: 12345678901234567890, 狐',
    steps: 20,
    sampler: 'euler',
    scheduler: 'linear',
    guidance: 3.5,
    seed: 1, // 2^53 + 1, which is no exact number; of its low 32 bits
    width: 1024,
    height: 768,
  }
  test.each(['comfyui.png', 'comfyui-ztxt.png', 'comfyui.webp'])('%s', async (name) => {
    expect(await readParameters(readFileSync(fixture(name)))).toMatchObject({
      writer: 'comfyui',
      options: expected,
      loras: [
        { name: 'flux/oil.safetensors', scale: 0.8 },
        { name: 'ink.safetensors', scale: 1 },
      ],
      unmapped: { model: 'flux1-dev.safetensors', max_shift: '1.15', base_shift: '0.5' },
    })
  })

  const ksampler = (inputs: object) => ({
    '3': [
      'KSampler',
      {
        seed: 7,
        steps: 20,
        cfg: 1,
        sampler_name: 'euler',
        scheduler: 'linear',
        denoise: 1,
        model: ['4', 0],
        positive: ['6', 0],
        negative: ['7', 0],
        latent_image: ['5', 0],
        ...inputs,
      },
    ] as [string, object],
    '4': ['UNETLoader', { unet_name: 'dev' }] as [string, object],
    '5': ['EmptyLatentImage', { width: 512, height: 768, batch_size: 1 }] as [string, object],
    '6': ['CLIPTextEncodeFlux', { clip_l: 'fox', t5xxl: 'a red fox', guidance: 2.5, clip: ['11', 0] }] as [
      string,
      object,
    ],
    '7': ['CLIPTextEncode', { text: 'ugly', clip: ['11', 0] }] as [string, object],
  })

  test('KSampler', async () => {
    const { options } = (await readParameters(comfy(ksampler({ cfg: 3 }))))!
    expect(options).toEqual({
      prompt: 'a red fox',
      negativePrompt: 'ugly',
      trueCfg: 3,
      steps: 20,
      sampler: 'euler',
      scheduler: 'linear',
      guidance: 2.5,
      seed: 7,
      width: 512,
      height: 768,
    })
  })

  test('texts through a ControlNet, which has both', async () => {
    const control = { positive: ['8', 0], negative: ['8', 1], cfg: 3 }
    const both = ['ControlNetApplyAdvanced', { strength: 1, positive: ['6', 0], negative: ['7', 0] }] as [
      string,
      object,
    ]
    expect((await readParameters(comfy({ ...ksampler(control), '8': both })))!.options).toMatchObject({
      prompt: 'a red fox',
      negativePrompt: 'ugly',
    })
  })

  test('a negative side that is zeroed out is no negative prompt', async () => {
    const zero = ['ConditioningZeroOut', { conditioning: ['6', 0] }] as [string, object]
    const { options, unmapped } = (await readParameters(
      comfy({ ...ksampler({ negative: ['8', 0], cfg: 3 }), '8': zero }),
    ))!
    expect([options.negativePrompt, unmapped.negativePrompt]).toEqual([undefined, undefined])
  })

  test('of two samplers the one that starts from an empty latent', async () => {
    const first = ksampler({})
    const second = ['KSampler', { ...first['3'][1], seed: 8, denoise: 0.4, latent_image: ['3', 0] }] as [string, object]
    const { options, unmapped } = (await readParameters(comfy({ '2': second, ...first })))!
    expect(options.seed).toBe(7)
    expect(unmapped).toEqual({ model: 'dev', 'other samplers': 'KSampler 2', negativePrompt: 'ugly' })
  })

  test('a denoise below 1 is reported', async () => {
    expect((await readParameters(comfy(ksampler({ denoise: 0.6 }))))!.unmapped).toMatchObject({ denoise: '0.6' })
  })

  test('prompt and workflow in a UserComment', async () => {
    const prompt = Object.fromEntries(
      Object.entries(ksampler({})).map(([id, [class_type, inputs]]) => [id, { class_type, inputs }]),
    )
    const file = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
      .withExif({ IFD2: { UserComment: JSON.stringify({ prompt, workflow: {} }) } })
      .webp()
      .toBuffer()
    expect((await readParameters(file))?.options).toMatchObject({ prompt: 'a red fox', seed: 7 })
  })

  test.each([
    [
      'links in a circle',
      comfy({
        ...ksampler({ seed: ['8', 0], positive: ['8', 0] }),
        '8': ['Loop', { value: ['8', 0], text: ['8', 0] }],
      }),
    ],
    ['links to nowhere', comfy({ '3': ['KSampler', { latent_image: ['9', 0], seed: ['10', 0] }] })],
    [
      'inputs of the wrong type',
      comfy({ '3': ['KSampler', { latent_image: null, seed: {}, steps: [1], model: 'x' }] }),
    ],
  ])('%s', async (_, file) => {
    const { options } = (await readParameters(file))!
    expect([options.seed, options.prompt]).toEqual([undefined, undefined])
  })

  test.each(['null', '[]', '7', '{', '{"3":null}', '{"3":{"class_type":"KSampler"}}', '['.repeat(100_000)])(
    '%.20s is no graph',
    async (json) => {
      expect(await readParameters(pngWith('tEXt', `prompt\0${json}`))).toBeUndefined()
    },
  )
})

describe('hostile and damaged files', () => {
  test('an image without parameters has none', async () => {
    expect(await readParameters(makePng(dot))).toBeUndefined()
    for (const format of ['jpeg', 'webp', 'avif', 'gif'] as const) {
      const image = sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
      expect(await readParameters(await image.toFormat(format).toBuffer())).toBeUndefined()
    }
  })

  test('a text that inflates to gigabytes', async () => {
    const bomb = Buffer.concat([Buffer.from('parameters\0\0'), deflateSync(Buffer.alloc(100_000_000))])
    await expect(readParameters(pngWith('zTXt', bomb))).rejects.toMatchObject({
      code: 'FLUX_UNSUPPORTED',
      message: expect.stringContaining('image has more than 16777216 bytes of compressed text'),
    })
    const chunks = Array.from({ length: 3 }, (_, i) => ({
      type: 'tEXt',
      data: Buffer.from(`k${i}\0${'x'.repeat(6_000_000)}`),
    }))
    await expect(readParameters(makePng({ ...dot, chunks }))).rejects.toMatchObject({ code: 'FLUX_UNSUPPORTED' })
  })

  test.each([
    ['commas', ','],
    ['colons', 'a:'],
    ['letters', 'a'],
    ['quotes', 'a:"'],
    ['backslashes', 'a:"\\'],
    ['escaped quotes', '\\"'],
    ['LoRAs', '<lora:'],
    ['digits', '1'],
    ['schedules', ' Karras'],
    ['negative prompts', '\nNegative prompt:'],
  ])('a megabyte of %s takes no longer than reading it', async (_, part) => {
    const text = part.repeat(Math.floor(1_000_000 / part.length))
    const elapsed = stopwatch()
    expect((await readParameters(pngOf(text)))!.text.length).toBe(text.length)
    await readParameters(pngWith('iTXt', `prompt\0\0\0\0\0{"a":"${text}`))
    expect(elapsed()).toBeLessThan(3000)
  })

  test.each(['a1111-itxt.png', 'a1111-itxt-compressed.png', 'a1111.jpg', 'a1111.webp', 'comfyui.webp'])(
    '%s: truncated or changed anywhere',
    async (name) => {
      const file = readFileSync(fixture(name))
      let state = 7
      const random = (below: number) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        return Math.floor((state / 2 ** 32) * below)
      }
      for (let i = 0; i < 400; i++) {
        const mutated = Buffer.from(file.subarray(0, i % 2 ? file.length : random(file.length)))
        for (let k = 0; k < 3; k++)
          if (i % 2) mutated[random(Math.min(mutated.length, i % 4 ? 200 : mutated.length))] = random(256)
        const result = await readParameters(mutated).catch((error) => error)
        if (result instanceof Error) expect(result, String(result.stack)).toBeInstanceOf(FluxError)
      }
    },
  )

  test('errors name the file', async () => {
    const path = join(folder, 'text.png')
    await writeFile(path, 'a fox')
    await expect(readParameters(path)).rejects.toMatchObject({
      code: 'FLUX_BAD_FILE',
      message: expect.stringContaining(`image "${path}" is not an image file`),
    })
    await expect(readParameters(join(folder, 'none.png'))).rejects.toMatchObject({ code: 'FLUX_NOT_FOUND' })
    await expect(readParameters({} as any)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await expect(readParameters('', {})).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })
})
