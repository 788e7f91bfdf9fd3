import { describe, expect, test } from 'vitest'
import { encodeImage } from '../../lib/images/encode.js'
import { readMask } from '../../lib/images/mask.js'
import type { ImageQueue, ModelState } from '../../lib/queue/queue.js'
import { samplerItems, schedulerItems } from '../../lib/server/a1111-names.js'
import { toImageToImage, toTextToImage } from '../../lib/server/a1111-request.js'
import type { ImageToImageBody, TextToImageBody } from '../../lib/server/a1111-schema.js'
import { ServerContext } from '../../lib/server/context.js'
import { requireWithinLimits } from '../../lib/server/limits.js'
import { completeServerOptions, type ServerOptions } from '../../lib/server/server-options.js'

/** of FLUX.1 dev */
const DEV: ModelState = {
  ...{ name: 'dev', changedAt: 0, bytes: 1, loaded: false, reads: null, editsReferences: false, components: [] },
  hasPreviewDecoder: false,
  defaults: { width: 1024, height: 1024, steps: 28, guidance: 3.5 },
}
const SCHNELL: ModelState = { ...DEV, name: 'schnell', defaults: { ...DEV.defaults, steps: 4, guidance: null } }
const FILL: ModelState = { ...DEV, name: 'fill', reads: 'fill' }
const KONTEXT: ModelState = { ...DEV, name: 'kontext', reads: 'references', editsReferences: true }

const queue = {
  loras: async () => ['style', 'flux/detail'],
  upscalers: async () => ['4x-UltraSharp'],
} as unknown as ImageQueue

const contextOf = (options: ServerOptions = {}) => new ServerContext(queue, completeServerOptions(options), 'dev')
const context = contextOf()
const owner = contextOf({ a1111Settings: true })

const text = (body: TextToImageBody, model = DEV, server = context) => toTextToImage(server, body, model)
const edit = (body: ImageToImageBody, model = DEV, server = context) => toImageToImage(server, body, model)

describe('values for Stable Diffusion', () => {
  const usual = { prompt: 'a fox', negative_prompt: 'blurry', cfg_scale: 7, steps: 20 }

  test('steps are a wish, and neither true CFG nor a negative prompt is taken', async () => {
    const dev = await text(usual)
    expect(dev.wishes).toEqual({ steps: 20, negativePrompt: 'blurry' })
    expect(dev.ignored).toEqual(['negative_prompt', 'cfg_scale'])
    for (const name of ['trueCfg', 'negativePrompt', 'steps', 'guidance']) expect(dev.options).not.toHaveProperty(name)
    expect((await text(usual, SCHNELL)).ignored).toEqual(['steps', 'negative_prompt', 'cfg_scale'])
  })

  test('are taken if the server is told to: steps as an option, cfg_scale as true CFG', async () => {
    const schnell = await text(usual, SCHNELL, owner)
    expect(schnell.options).toMatchObject({ steps: 20, trueCfg: 7 })
    expect(schnell.wishes).toEqual({ negativePrompt: 'blurry' })
    expect(schnell.ignored).toEqual([])
    // 1 and less mean none, as there
    for (const cfg_scale of [1, 0])
      expect((await text({ cfg_scale }, DEV, owner)).options).not.toHaveProperty('trueCfg')
  })

  test('distilled_cfg_scale is guidance, dropped for models without', async () => {
    expect(await text({ distilled_cfg_scale: 2.5 })).toMatchObject({ wishes: { guidance: 2.5 }, ignored: [] })
    expect((await text({ distilled_cfg_scale: 2.5 }, SCHNELL)).ignored).toEqual(['distilled_cfg_scale'])
  })

  test('steps 0 means none, as Open WebUI sends it', async () => {
    expect((await text({ steps: 0 })).wishes).toEqual({})
  })
})

describe('sizes', () => {
  test.each([
    [{ width: 520, height: 512 }, { width: 528, height: 512 }, ['width 520 is drawn as 528']],
    [
      { width: 824, height: 1000 },
      { width: 832, height: 1008 },
      ['width 824 is drawn as 832', 'height 1000 is drawn as 1008'],
    ],
    [{ width: 768 }, { width: 768, height: 1024 }, []],
    [{}, { width: 1024, height: 1024 }, []],
  ])('%j becomes %j', async (given, size, notes) => {
    const drawing = await text(given)
    expect(drawing.options).toMatchObject(size)
    expect(drawing.notes).toEqual(notes)
  })

  test('limits apply to the size, the enlarged size, the number of images and the steps that are taken', async () => {
    const limited = async (body: TextToImageBody) => requireWithinLimits(context, await text(body), DEV)
    await expect(limited({ width: 4096, height: 4096 })).rejects.toThrow(/^width x height is 16777216 pixels/)
    await expect(limited({ enable_hr: true, hr_scale: 4 })).rejects.toThrow(/^width x height is 16777216 pixels/)
    await expect(limited({ enable_hr: true, hr_resize_x: 4096 })).rejects.toThrow(/^width x height is 16777216 pixels/)
    await expect(limited({ batch_size: 4, n_iter: 3 })).rejects.toThrow(/^count is 12/)
    await expect(limited({ steps: 500 })).rejects.toThrow(/^steps is 500/)
    expect((await text({ steps: 500 }, SCHNELL)).ignored).toEqual(['steps'])
    await expect(limited({ prompt: 'x'.repeat(10_001) })).rejects.toThrow(/^prompt is 10001 characters/)
  })
})

describe('seeds', () => {
  test('-1 and none mean a random one, which is known', async () => {
    const seeds = await Promise.all(
      [{}, { seed: -1 }, { seed: -1 }].map(async (body) => (await text(body)).options.seed),
    )
    for (const seed of seeds) expect(seed).toBeGreaterThanOrEqual(0)
    expect(new Set(seeds).size).toBe(3)
    expect((await text({ seed: 5, n_iter: 2, batch_size: 3 })).options).toMatchObject({ seed: 5, count: 6 })
  })

  test('a subseed is a variation if it has a strength', async () => {
    expect((await text({ subseed: 9 })).options).not.toHaveProperty('variation')
    const { options } = await text({ seed: 5, subseed: 9, subseed_strength: 0.25 })
    expect(options.variation).toEqual({ seed: 9, strength: 0.25 })
    expect((await text({ subseed: -1, subseed_strength: 0.25 })).options.variation!.seed).toBeGreaterThanOrEqual(0)
  })
})

describe('hires', () => {
  const hires = async (body: TextToImageBody, model = DEV, server = context) =>
    (await text({ width: 512, height: 768, enable_hr: true, ...body }, model, server)).options.hires

  test.each([
    [{}, { strength: 0.75, upscale: 'latent' }],
    [
      { hr_scale: 1.5, denoising_strength: 0.4 },
      { scale: 1.5, strength: 0.4, upscale: 'latent' },
    ],
    [{ hr_resize_x: 1000 }, { width: 1008, height: 1504, strength: 0.75, upscale: 'latent' }],
    [
      { hr_resize_y: 1536, hr_scale: 3 },
      { width: 1024, height: 1536, strength: 0.75, upscale: 'latent' },
    ],
    [
      { hr_resize_x: 1024, hr_resize_y: 1024 },
      { width: 1024, height: 1024, strength: 0.75, upscale: 'latent' },
    ],
    [{ hr_upscaler: 'Latent (bicubic antialiased)' }, { strength: 0.75, upscale: 'latent' }],
    [{ hr_upscaler: 'Lanczos' }, { strength: 0.75, upscale: 'image' }],
    [{ hr_upscaler: 'None' }, { strength: 0.75, upscale: 'image' }],
    [{ hr_upscaler: '4x-UltraSharp' }, { strength: 0.75, upscaler: '4x-UltraSharp' }],
    [{ hr_second_pass_steps: 12 }, { strength: 0.75, steps: 12, upscale: 'latent' }],
    [{ hr_second_pass_steps: 0 }, { strength: 0.75, upscale: 'latent' }],
  ])('%j becomes %j', async (body, expected) => {
    expect(await hires(body)).toEqual(expected)
  })

  test('an upscaler that does not exist is replaced', async () => {
    const drawing = await text({ enable_hr: true, hr_scale: 1.5, hr_upscaler: 'R-ESRGAN 4x+' })
    expect(drawing.options.hires).toMatchObject({ upscale: 'image' })
    expect(drawing.notes).toEqual(['there is no upscaler R-ESRGAN 4x+: Lanczos is taken'])
  })

  test('the second pass of a model with few steps has as many, unless the server is told to take them', async () => {
    expect(await hires({ hr_second_pass_steps: 20 }, SCHNELL)).not.toHaveProperty('steps')
    expect(await hires({ hr_second_pass_steps: 20 }, SCHNELL, owner)).toHaveProperty('steps', 20)
  })

  test('without enable_hr nothing is enlarged', async () => {
    expect((await text({ hr_scale: 2, hr_upscaler: 'Latent', denoising_strength: 0.7 })).options).not.toHaveProperty(
      'hires',
    )
  })
})

describe('samplers', () => {
  // labels of A1111 (modules/sd_samplers_kdiffusion.py, sd_samplers_timesteps.py, sd_samplers_lcm.py), names of ComfyUI
  // (comfy/samplers.py) and of stable-diffusion.cpp
  test.each([
    ['Euler', 'euler'],
    ['Euler a', 'euler_ancestral'],
    ['k_euler_a', 'euler_ancestral'],
    ['euler_ancestral', 'euler_ancestral'],
    ['euler_a', 'euler_ancestral'],
    ['Heun', 'heun'],
    ['DPM2', 'dpm_2'],
    ['DPM++ 2M', 'dpmpp_2m'],
    ['dpm++2m', 'dpmpp_2m'],
    ['dpmpp_2m_sde', 'dpmpp_2m_sde'],
    ['DPM++ 2M SDE', 'dpmpp_2m_sde'],
    ['DPM++ SDE', 'dpmpp_sde'],
    ['LCM', 'lcm'],
    ['UniPC', 'uni_pc'],
    ['uni_pc_bh2', 'uni_pc_bh2'],
    ['res_multistep', 'res_multistep'],
  ])('%s is %s', async (sampler_name, sampler) => {
    const drawing = await text({ sampler_name })
    expect(drawing.options).toMatchObject({ sampler })
    expect(drawing.options).not.toHaveProperty('scheduler')
    expect(drawing.notes).toEqual([])
  })

  test.each([
    ['DPM++ 2M Karras', undefined, 'dpmpp_2m', 'karras'],
    ['DPM++ 2M Karras', 'Automatic', 'dpmpp_2m', 'karras'],
    ['DPM++ 2M SDE Exponential', undefined, 'dpmpp_2m_sde', 'exponential'],
    ['DPM++ 2M Karras', 'SGM Uniform', 'dpmpp_2m', 'sgm_uniform'],
    ['Euler', 'KL Optimal', 'euler', 'kl_optimal'],
    ['Euler', 'sgm_uniform', 'euler', 'sgm_uniform'],
    ['Euler', 'DDIM', 'euler', 'ddim_uniform'],
    ['Euler', 'Beta', 'euler', 'beta'],
  ])('%s with %s is %s with %s', async (sampler_name, scheduler, ...expected) => {
    const { options } = await text({ sampler_name, ...(scheduler === undefined ? {} : { scheduler }) })
    expect([options.sampler, options.scheduler]).toEqual(expected)
  })

  test('Automatic and none are the default', async () => {
    for (const scheduler of ['Automatic', 'automatic', '', undefined])
      expect((await text({ ...(scheduler === undefined ? {} : { scheduler }) })).options).not.toHaveProperty(
        'scheduler',
      )
    expect((await text({ sampler_name: '', sampler_index: 'Heun' })).options.sampler).toBe('heun')
  })

  test('all that are listed exist', async () => {
    for (const { name, aliases } of samplerItems)
      for (const sampler_name of [name, ...aliases])
        expect(await text({ sampler_name })).toMatchObject({ options: { sampler: aliases[0] }, notes: [] })
    for (const { name, label } of schedulerItems.slice(1))
      for (const scheduler of [name, label])
        expect(await text({ scheduler })).toMatchObject({ options: { scheduler: name }, notes: [] })
    expect(schedulerItems[0]).toMatchObject({ name: 'automatic', label: 'Automatic' })
  })

  test('what does not exist is replaced by the default, with a note', async () => {
    const drawing = await text({ sampler_name: 'DPM fast', scheduler: 'Polyexponential' })
    expect(drawing.options).not.toHaveProperty('sampler')
    expect(drawing.options).not.toHaveProperty('scheduler')
    expect(drawing.notes).toEqual([
      'there is no sampler DPM fast: euler is taken',
      'there is no scheduler Polyexponential: the default is taken',
    ])
    expect((await text({ sampler_name: 'DPM fast Karras' })).options).not.toHaveProperty('scheduler')
    expect((await text({ sampler_name: 'constructor' })).notes).toHaveLength(1)
  })
})

describe('LoRAs in the prompt', () => {
  test('by name with and without its folder, with and without a weight', async () => {
    const prompt = '<lora:style:0.8> a fox <lora:detail> in snow<lora:flux/detail:-0.5:1>'
    const { options } = await text({ prompt })
    expect(options.prompt).toBe('a fox  in snow')
    expect(options.loras).toEqual([
      { path: 'style', scale: 0.8 },
      { path: 'flux/detail', scale: 1 },
      { path: 'flux/detail', scale: -0.5 },
    ])
  })

  test('a prompt without any stays as it is', async () => {
    const { options } = await text({ prompt: ' a <b> (c:1.2) ' })
    expect(options.prompt).toBe(' a <b> (c:1.2) ')
    expect(options).not.toHaveProperty('loras')
  })

  test('one that does not exist is named', async () => {
    const message = "the prompt asks for the LoRA 'other', which does not exist; there are style, flux/detail"
    await expect(text({ prompt: 'a fox <lora:other:1>' })).rejects.toMatchObject({ status: 404, message })
    await expect(text({ prompt: '<lora:../../etc/passwd:1>' })).rejects.toMatchObject({ status: 404 })
    await expect(text({ prompt: '<lora:style:much>' })).rejects.toMatchObject({ status: 400 })
  })
})

/** a file of one grey value for each pixel, with alpha if there is any */
async function picture(width: number, height: number, grey: number[], alpha?: number[]): Promise<string> {
  const rgb = new Uint8Array(width * height * 3)
  for (let i = 0; i < rgb.length; i++) rgb[i] = grey[Math.floor(i / 3) % grey.length]!
  if (!alpha) return (await encodeImage(rgb, width, height)).toString('base64')
  const { PNG } = await import('pngjs')
  const png = new PNG({ width, height })
  for (let i = 0; i < width * height; i++)
    for (let c = 0; c < 4; c++) png.data[i * 4 + c] = c < 3 ? grey[i % grey.length]! : alpha[i % alpha.length]!
  return PNG.sync.write(png).toString('base64')
}

describe('img2img', () => {
  const image = () => picture(64, 96, [10, 200])

  test('starts from the image, stretched to the size, with the strength of A1111', async () => {
    const file = await image()
    const { options } = await edit({ init_images: [`data:image/png;base64,${file}`], width: 132, height: 64 })
    expect(options).toMatchObject({ width: 128, height: 64, strength: 0.75, resize: 'stretch' })
    expect(Buffer.compare(options.image as Buffer, Buffer.from(file, 'base64'))).toBe(0)
    for (const name of ['mask', 'maskBlur', 'onlyMasked']) expect(options).not.toHaveProperty(name)
  })

  test('without a size it is that of the image; of one side, the other follows', async () => {
    const init_images = [await image()]
    const { options } = await edit({ init_images })
    expect(options).not.toHaveProperty('width')
    expect(options).not.toHaveProperty('height')
    expect((await edit({ init_images, width: 128 })).options).toMatchObject({ width: 128, height: 192 })
    const small = contextOf({ limits: { pixels: 4096 } })
    const limited = (await edit({ init_images: [await picture(128, 128, [0])] }, DEV, small)).options
    expect(limited.width! * limited.height!).toBeLessThanOrEqual(4096)
  })

  test.each([
    [0, 'stretch'],
    [1, 'cover'],
    [2, 'contain'],
    [3, 'stretch'],
  ])('resize_mode %i is %s', async (resize_mode, resize) => {
    expect((await edit({ init_images: [await image()], resize_mode })).options.resize).toBe(resize)
  })

  test('denoising_strength is the strength; Fill replaces all by default', async () => {
    const init_images = [await image()]
    expect((await edit({ init_images, denoising_strength: 0.3 })).options.strength).toBe(0.3)
    expect((await edit({ init_images, denoising_strength: 0.3 }, FILL)).options.strength).toBe(0.3)
    expect((await edit({ init_images }, FILL)).options).not.toHaveProperty('strength')
  })

  test('needs one image', async () => {
    await expect(edit({})).rejects.toThrow(/^init_images is missing/)
    await expect(edit({ init_images: [await image(), await image()] })).rejects.toThrow(/^init_images has 2 images/)
    await expect(edit({ init_images: ['http://example.com/a.png'] })).rejects.toThrow(/^init_images is an address/)
  })

  test('a model that edits takes images as references, unless there is a mask', async () => {
    const init_images = [await image(), await image()]
    const { options } = await edit({ init_images, width: 130, denoising_strength: 0.5 }, KONTEXT)
    expect(options.referenceImages).toHaveLength(2)
    expect(options).toMatchObject({ width: 128 })
    for (const name of ['image', 'strength', 'resize']) expect(options).not.toHaveProperty(name)
    const masked = await edit({ init_images: init_images.slice(1), mask: await picture(64, 96, [255]) }, KONTEXT)
    expect(masked.options).not.toHaveProperty('referenceImages')
    expect(masked.options.image).toBeDefined()
  })

  describe('with a mask', () => {
    const masked = async (
      body: ImageToImageBody,
      grey = [0, 255],
      alpha?: number[],
      size: [number, number] = [64, 96],
    ) => {
      const { options } = await edit({
        init_images: [await image()],
        mask: await picture(...size, grey, alpha),
        ...body,
      })
      return { options, mask: await readMask(options.mask as Buffer) }
    }

    test('white is drawn anew, with the defaults of A1111', async () => {
      const { options, mask } = await masked({})
      expect([mask.width, mask.height, ...mask.data.subarray(0, 4)]).toEqual([64, 96, 0, 255, 0, 255])
      expect(options).toMatchObject({ maskBlur: 4, onlyMasked: { padding: 0 } })
    })

    test.each([
      [{ mask_blur: 0 }, 0],
      [{ mask_blur: 7 }, 7],
      [{ mask_blur_x: 1, mask_blur_y: 2 }, 2],
      [{ mask_blur_x: 9 }, 9],
      [{ mask_blur: 3, mask_blur_x: 9 }, 3],
    ])('%j is a blur of %i', async (body, blur) => {
      expect((await masked(body)).options.maskBlur).toBe(blur)
    })

    test('inpaint_full_res and its padding say whether only the masked part is drawn', async () => {
      expect((await masked({ inpaint_full_res: false, inpaint_full_res_padding: 8 })).options).not.toHaveProperty(
        'onlyMasked',
      )
      expect((await masked({ inpaint_full_res_padding: 8 })).options.onlyMasked).toEqual({ padding: 8 })
    })

    test('inpainting_mask_invert', async () => {
      const { mask } = await masked({ inpainting_mask_invert: 1 })
      expect([...mask.data.subarray(0, 4)]).toEqual([255, 0, 255, 0])
    })

    test('of a mask with transparent pixels, what is opaque is drawn anew, whatever its colour', async () => {
      const { mask } = await masked({}, [0], [255, 0])
      expect([...mask.data.subarray(0, 4)]).toEqual([255, 0, 255, 0])
      // an alpha channel without use
      const opaque = await masked({}, [0, 255], [255])
      expect([...opaque.mask.data.subarray(0, 4)]).toEqual([0, 255, 0, 255])
    })

    test('a mask of another size is brought to that of the image', async () => {
      const { mask } = await masked({}, [255], undefined, [32, 48])
      expect([mask.width, mask.height]).toEqual([64, 96])
      expect(mask.data.every((value) => value === 255)).toBe(true)
    })
  })
})
