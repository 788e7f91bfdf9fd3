import type { FastifyRequest } from 'fastify'
import { FluxError } from '../errors.js'
import { RANGES } from '../options/ranges.js'
import type { DrawOptions } from '../pipeline/engine.js'
import type { JobRequest, ModelState, Wishes } from '../queue/queue.js'
import type { ServerContext } from './context.js'
import { toLoras } from './image-request.js'
import type { EditBody, GenerationBody, VariationBody } from './openai-schema.js'
import { fromWire } from './wire.js'

/** what images are written as */
const FORMATS = ['png', 'jpeg', 'webp', 'avif'] as const

/** What a route asks for. `size`: of the image, where the options leave it open. */
export interface Drawing extends Omit<JobRequest, 'model'> {
  size?: { width: number; height: number }
}

/** Turns a body of OpenAI's image routes into a job, without its images. */
export function toDrawing(body: Omit<GenerationBody, 'prompt'>, prompt: string): Drawing {
  const { size = 'auto', quality = 'auto', output_format = 'png', output_compression, n } = body
  const { negative_prompt, true_cfg, steps, guidance, seed, sampler, scheduler, shift, step_cache } = body
  const { prompt_weights, strength, mask_blur, mask_grow, only_masked, loras, stream, partial_images = 0 } = body
  const own = { negative_prompt, true_cfg, steps, guidance, seed, sampler, scheduler, shift, step_cache }
  const others = { prompt_weights, strength, mask_blur, mask_grow, only_masked }
  const given = Object.fromEntries(Object.entries({ ...own, ...others }).filter(([, value]) => value !== undefined))
  const format = formatOf(output_format)
  const isLossy = format !== 'png' && output_compression !== undefined
  const options: DrawOptions = {
    prompt,
    ...(fromWire(given) as Partial<DrawOptions>),
    ...sizeOf(size),
    format,
    ...(n === undefined ? {} : { count: n }),
    ...(isLossy ? { quality: Math.max(1, output_compression) } : {}),
    ...(loras ? { loras: toLoras(loras) } : {}),
    ...(stream && partial_images > 0 ? { preview: { every: 1 } } : {}),
  }
  const wish = quality === 'standard' || quality === 'hd' || quality === 'auto' ? undefined : quality
  const wishes: Wishes = wish && steps === undefined ? { quality: wish } : {}
  return { options, wishes }
}

function formatOf(format: string): (typeof FORMATS)[number] {
  const known = FORMATS.find((name) => name === format)
  if (known) return known
  throw new FluxError('FLUX_BAD_OPTION', `output_format is '${format}': give one of ${FORMATS.join(', ')}`)
}

function sizeOf(size: string): { width?: number; height?: number } {
  if (size === 'auto' || size === '') return {}
  const [, width, height] = /^(\d{1,5})x(\d{1,5})$/.exec(size) ?? []
  if (width === undefined || height === undefined)
    throw new FluxError('FLUX_BAD_OPTION', `size is '${size}': give WIDTHxHEIGHT, such as 1024x1024, or 'auto'`)
  return { width: Number(width), height: Number(height) }
}

/** What an edit does with its images depends on what the model was trained for. */
export async function toEdit(
  context: ServerContext,
  request: FastifyRequest,
  body: EditBody,
  model: ModelState,
): Promise<Drawing> {
  const job = toDrawing(body, body.prompt)
  const images = await imagesIn(context, request, body)
  const [first] = images
  if (!first) throw new FluxError('FLUX_BAD_OPTION', 'image is missing: send the image to edit')
  const mask = await maskIn(context, request, body)
  if (!mask && model.editsReferences) return { ...job, options: { ...job.options, referenceImages: images } }
  if (images.length > 1)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `image is given ${images.length} times, but ${model.name} edits one image${mask ? ' with a mask' : ''}: send one`,
    )
  const size = await context.imageSize('image', first)
  const options = { ...editedSize(size, context.settings.limits.pixels), ...job.options, image: first, ...mask }
  return { ...job, options, size }
}

/** The size that is drawn if none is requested: that of the image (undefined), unless this server draws only smaller ones. */
export function editedSize(
  image: { width: number; height: number },
  pixels: number,
): { width?: number; height?: number } {
  const { most, least, unit } = RANGES.width
  const share = Math.min(
    1,
    Math.sqrt(pixels / (image.width * image.height)),
    most / Math.max(image.width, image.height),
  )
  if (share === 1) return {}
  const side = (pixels: number) => Math.max(least, Math.floor((pixels * share) / unit) * unit)
  return { width: side(image.width), height: side(image.height) }
}

/** A new image from one: by Redux, if the model has it. */
export async function toVariation(
  context: ServerContext,
  request: FastifyRequest,
  body: VariationBody,
  model: ModelState,
): Promise<Drawing> {
  if (!model.components.includes('redux'))
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      `${model.name} makes no variations: put FLUX.1 Redux and SigLIP next to it, or send the image to /v1/images/edits`,
    )
  const job = toDrawing(body, '')
  const [image] = await imagesIn(context, request, body)
  if (!image) throw new FluxError('FLUX_BAD_OPTION', 'image is missing: send the image to vary')
  return { ...job, options: { ...job.options, redux: [{ image }] } }
}

async function imagesIn(
  context: ServerContext,
  { uploads = {} }: FastifyRequest,
  { image = [], images = [] }: Pick<EditBody, 'image' | 'images'>,
): Promise<Buffer[]> {
  const sent = [...(uploads.image ?? []), ...[image].flat(), ...images.map(addressed)]
  return Promise.all(sent.map((one) => context.image('image', one)))
}

/** OpenAI's masks are transparent where the image changes. One without transparency is taken as white there. */
async function maskIn(
  context: ServerContext,
  { uploads = {} }: FastifyRequest,
  { mask }: EditBody,
): Promise<Pick<DrawOptions, 'mask'> | undefined> {
  const sent = uploads.mask?.[0] ?? (mask === undefined ? undefined : addressed(mask))
  if (sent === undefined) return undefined
  const bytes = await context.image('mask', sent)
  const { hasAlpha } = await context.imageSize('mask', bytes)
  return { mask: hasAlpha ? { alphaOf: bytes } : bytes }
}

function addressed(image: string | { image_url?: string; file_id?: string }): string {
  if (typeof image === 'string') return image
  if (image.image_url !== undefined) return image.image_url
  throw new FluxError('FLUX_BAD_OPTION', 'image has a file_id, and this server keeps no files: send the image itself')
}
