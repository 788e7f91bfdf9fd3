import { randomInt } from 'node:crypto'
import { FluxError } from '../errors.js'
import { defined } from '../options/defined.js'
import type { DrawOptions } from '../pipeline/engine.js'
import type { JobRequest, ModelState, Wishes } from '../queue/queue.js'
import { granted } from '../queue/wishes.js'
import { takeLoras } from './a1111-loras.js'
import { maskFile } from './a1111-mask.js'
import { chooseSampler } from './a1111-names.js'
import type { ImageToImageBody, TextToImageBody } from './a1111-schema.js'
import type { ServerContext } from './context.js'
import { editedSize } from './openai-request.js'

type CommonBody = Omit<TextToImageBody, 'denoising_strength'>

/** What a request of A1111's routes asks for. */
export interface A1111Drawing extends JobRequest {
  options: DrawOptions & { seed: number; count: number }
  wishes: Wishes
  /** what was replaced */
  notes: string[]
  /** the fields that have no effect with this model and server */
  ignored: string[]
}

/** as in A1111: `StableDiffusionProcessingTxt2Img` and `…Img2Img` in `modules/processing.py` */
const DENOISING_STRENGTH = 0.75

export async function toTextToImage(
  context: ServerContext,
  body: TextToImageBody,
  model: ModelState,
): Promise<A1111Drawing> {
  const { width: ownWidth, height: ownHeight } = model.defaults
  const size = { width: toMultiple(body.width ?? ownWidth), height: toMultiple(body.height ?? ownHeight) }
  const drawing = await toDrawing(context, body, model)
  const notes = [...drawing.notes, ...sizeNotes(body, size)]
  if (!body.enable_hr) return { ...drawing, options: { ...drawing.options, ...size }, notes }
  const { hires, notes: hiresNotes } = await toHires(context, body, model, size)
  return {
    ...drawing,
    options: { ...drawing.options, ...size, hires },
    notes: [...notes, ...hiresNotes],
  }
}

export async function toImageToImage(
  context: ServerContext,
  body: ImageToImageBody,
  model: ModelState,
): Promise<A1111Drawing> {
  const { init_images = [], mask, denoising_strength } = body
  const images = await Promise.all(init_images.map((one) => context.image('init_images', one)))
  const [first] = images
  if (!first) throw new FluxError('FLUX_BAD_OPTION', 'init_images is missing: send the image to start from')
  const drawing = await toDrawing(context, body, model)
  if (model.editsReferences && mask === undefined) {
    const size = defined({ width: multipleOf(body.width), height: multipleOf(body.height) })
    return {
      ...drawing,
      options: { ...drawing.options, ...size, referenceImages: images },
      notes: [...drawing.notes, ...sizeNotes(body, size)],
    }
  }
  if (images.length > 1)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `init_images has ${images.length} images, but ${model.name} takes one: send one`,
    )
  const own = await context.imageSize('init_images', first)
  const size = imageSize(body, own, context.settings.limits.pixels)
  // Fill was trained to replace what is masked
  const strength = denoising_strength ?? (model.reads === 'fill' ? undefined : DENOISING_STRENGTH)
  const resize = (['stretch', 'cover', 'contain', 'stretch'] as const)[body.resize_mode ?? 0]!
  const options = {
    ...{ ...drawing.options, ...size, image: first, resize },
    ...defined({ strength }),
    ...(mask === undefined ? {} : await toMask(context, body, mask, own)),
  }
  return { ...drawing, options, notes: [...drawing.notes, ...sizeNotes(body, size)] }
}

/** What both routes have in common: all but images and sizes. */
async function toDrawing(context: ServerContext, body: CommonBody, model: ModelState): Promise<A1111Drawing> {
  const { prompt = '', negative_prompt, cfg_scale = 1, distilled_cfg_scale, subseed_strength = 0 } = body
  const { sampler, scheduler, notes } = chooseSampler(body.sampler_name || body.sampler_index, body.scheduler)
  const isOwner = context.settings.a1111Settings ?? false
  const steps = body.steps || undefined
  const options = {
    ...takeLoras(prompt, prompt.includes('<lora:') ? await context.queue.loras() : []),
    ...defined({ sampler, scheduler, steps: isOwner ? steps : undefined }),
    ...(isOwner && cfg_scale > 1 ? { trueCfg: cfg_scale } : {}),
    ...(subseed_strength > 0 ? { variation: { seed: seedOf(body.subseed), strength: subseed_strength } } : {}),
    seed: seedOf(body.seed),
    count: (body.batch_size ?? 1) * (body.n_iter ?? 1),
    preview: { every: 1, method: 'linear' as const }, // costs nothing, and few clients look
  }
  const wishes: Wishes = defined({
    steps: isOwner ? undefined : steps,
    guidance: distilled_cfg_scale,
    negativePrompt: negative_prompt || undefined,
  })
  const given = granted(options, wishes, model.defaults)
  const ignored = [
    ...(wishes.steps !== undefined && given.steps === undefined ? ['steps'] : []),
    ...(wishes.guidance !== undefined && given.guidance === undefined ? ['distilled_cfg_scale'] : []),
    ...(wishes.negativePrompt !== undefined && given.negativePrompt === undefined ? ['negative_prompt'] : []),
    ...(cfg_scale !== 1 && given.trueCfg === undefined ? ['cfg_scale'] : []),
  ]
  return { model: model.name, options, wishes, notes, ignored }
}

async function toHires(
  { queue, settings }: ServerContext,
  body: TextToImageBody,
  model: ModelState,
  size: Size,
): Promise<{ hires: NonNullable<DrawOptions['hires']>; notes: string[] }> {
  const { hr_resize_x: x = 0, hr_resize_y: y = 0, hr_upscaler: upscaler = 'Latent', hr_scale } = body
  const steps = body.hr_second_pass_steps || undefined
  // the first pass has as many steps as the model was made for, and so has the second
  const taken = settings.a1111Settings ? steps : granted({ prompt: '' }, defined({ steps }), model.defaults).steps
  const large =
    x || y
      ? {
          width: toMultiple(x || (y * size.width) / size.height),
          height: toMultiple(y || (x * size.height) / size.width),
        }
      : defined({ scale: hr_scale })
  const common = { ...large, strength: body.denoising_strength ?? DENOISING_STRENGTH, ...defined({ steps: taken }) }
  if (/^Latent\b/.test(upscaler)) return { hires: { ...common, upscale: 'latent' }, notes: [] }
  const networks = await queue.upscalers()
  if (networks.includes(upscaler)) return { hires: { ...common, upscaler }, notes: [] }
  const isKnown = upscaler === 'None' || upscaler === 'Lanczos'
  const notes = isKnown ? [] : [`there is no upscaler ${upscaler}: Lanczos is taken`]
  return { hires: { ...common, upscale: 'image' }, notes }
}

async function toMask(
  context: ServerContext,
  body: ImageToImageBody,
  mask: string,
  size: Size,
): Promise<Pick<DrawOptions, 'mask' | 'maskBlur' | 'onlyMasked'>> {
  const { mask_blur, mask_blur_x = 4, mask_blur_y = 4, inpaint_full_res = true, inpaint_full_res_padding = 0 } = body
  return {
    mask: await maskFile(context, mask, { size, invert: (body.inpainting_mask_invert ?? 0) !== 0 }),
    maskBlur: mask_blur ?? Math.max(mask_blur_x, mask_blur_y),
    ...(inpaint_full_res ? { onlyMasked: { padding: inpaint_full_res_padding } } : {}),
  }
}

interface Size {
  width: number
  height: number
}

/** Of one side, the other follows from the image; of none, the size is the image's own. */
function imageSize({ width, height }: Partial<Size>, image: Size, pixels: number): Partial<Size> {
  if (width === undefined && height === undefined) return editedSize(image, pixels)
  return {
    width: toMultiple(width ?? (height! * image.width) / image.height),
    height: toMultiple(height ?? (width! * image.height) / image.width),
  }
}

const UNIT = 16

function toMultiple(pixels: number): number {
  return UNIT * Math.round(pixels / UNIT)
}

const multipleOf = (pixels: number | undefined) => (pixels === undefined ? undefined : toMultiple(pixels))

function sizeNotes(wanted: Partial<Size>, size: Partial<Size>): string[] {
  return (['width', 'height'] as const).flatMap((side) =>
    wanted[side] === undefined || wanted[side] === size[side]
      ? []
      : [`${side} ${wanted[side]} is drawn as ${size[side]}`],
  )
}

/** Negative seeds mean a random one. It is chosen here, so that it is known for a request that is interrupted. */
function seedOf(seed = -1): number {
  return seed < 0 ? randomInt(2 ** 32) : seed
}
