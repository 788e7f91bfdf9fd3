import { Type, type Static } from 'typebox'
import { RANGES } from '../options/ranges.js'
import { SAMPLERS } from '../sampling/samplers.js'
import { SCHEDULERS } from '../sampling/schedule.js'

const { Optional, Object: Fields } = Type
const text = (description: string) => Type.String({ description })
const number = (range: { least: number; most: number }, description: string) =>
  Type.Number({ minimum: range.least, maximum: range.most, description })
const whole = (least: number, most: number, description: string) =>
  Type.Integer({ minimum: least, maximum: most, description })
const oneOf = <const T extends string[]>(values: [...T], description: string) => Type.Enum(values, { description })
/** an image file, as base64 or a data URI */
export const image = (description: string) => text(`${description} (image file)`)

const SEED = { least: 0, most: Number.MAX_SAFE_INTEGER }
const UNIT = { least: 0, most: 1 }
const list = (description: string) => ({ maxItems: 8, description })

/** Options of our own that OpenAI's routes take as well. */
export const DRAWING = {
  negative_prompt: Optional(text('what the image should not show; needs true_cfg above 1')),
  true_cfg: Optional(
    Type.Union(
      [
        number(RANGES.trueCfg, 'the scale'),
        Fields({
          scale: number(RANGES.trueCfg, 'the scale'),
          start: Optional(number(UNIT, 'share of the steps after which it begins')),
          end: Optional(number(UNIT, 'share of the steps after which it ends')),
          zero_star: Optional(oneOf(['diffusers', 'comfyui'], 'CFG-Zero*')),
          zero_init_steps: Optional(whole(0, RANGES.steps.most, 'first steps that are left out')),
        }),
      ],
      { description: 'scale of classifier-free guidance, or its options; above 1 each step takes twice as long' },
    ),
  ),
  steps: Optional(whole(1, RANGES.steps.most, "denoising steps; by default the model's own")),
  guidance: Optional(number(RANGES.guidance, 'strength of the prompt, for models with guidance')),
  seed: Optional(whole(SEED.least, SEED.most, 'the same seed gives the same image; by default a random one')),
  sampler: Optional(oneOf(Object.keys(SAMPLERS), "by default 'euler'")),
  scheduler: Optional(oneOf(Object.keys(SCHEDULERS), "by default 'official'")),
  shift: Optional(
    Type.Union([Type.Boolean(), Type.Literal('comfyui')], {
      description: 'whether larger images stay longer at high noise levels',
    }),
  ),
  step_cache: Optional(number(UNIT, 'relative error allowed for skipped evaluations')),
  prompt_weights: Optional(Type.Boolean({ description: 'whether (word:1.3) in the prompt is a weight' })),
  loras: Optional(
    Type.Array(
      Fields({ name: text('as in /v1/capabilities'), scale: Optional(Type.Number({ description: 'by default 1' })) }),
      { maxItems: 32, description: 'LoRAs, applied together' },
    ),
  ),
  strength: Optional(number(UNIT, 'how much of the image changes; by default 0.6')),
  mask_blur: Optional(number(RANGES.maskBlur, "pixels by which the mask's edge is softened")),
  mask_grow: Optional(whole(RANGES.maskGrow.least, RANGES.maskGrow.most, 'pixels by which the mask grows')),
  only_masked: Optional(Type.Boolean({ description: 'draw only the masked part, larger, and paste it back' })),
  on_disconnect: Optional(
    oneOf(
      ['cancel', 'continue'],
      'whether a client that hangs up cancels its job. The default is cancel where the answer is the image, and continue for /v1/jobs and with an Idempotency-Key',
    ),
  ),
  priority: Optional(whole(-100, 100, 'higher is earlier; by default 0')),
}

/** A request in our own form. */
export const ImageRequestSchema = Fields({
  model: Optional(text('as in /v1/models')),
  prompt: text('what the image shows'),
  width: Optional(whole(RANGES.width.least, RANGES.width.most, "pixels, a multiple of 16; by default the model's own")),
  height: Optional(whole(RANGES.height.least, RANGES.height.most, 'like width')),
  count: Optional(whole(1, 64, 'number of images, with seeds that follow each other')),
  ...DRAWING,
  sigmas: Optional(Type.Array(Type.Number(), { maxItems: 1001, description: 'noise levels of your own' })),
  noise: Optional(oneOf(['float32', 'bfloat16'], "torch's number format for noise")),
  max_sequence_length: Optional(whole(16, 512, 'tokens of the prompt that T5 sees')),
  variation: Optional(
    Fields(
      { seed: whole(SEED.least, SEED.most, 'the second seed'), strength: number(UNIT, 'how far on that way') },
      { description: 'noise on the way to that of a second seed' },
    ),
  ),
  hires: Optional(
    Fields(
      {
        scale: Optional(number(RANGES.hiresScale, 'by default 2')),
        width: Optional(whole(RANGES.width.least, RANGES.width.most, 'instead of scale')),
        height: Optional(whole(RANGES.height.least, RANGES.height.most, 'instead of scale')),
        strength: Optional(number(UNIT, 'by default 0.5')),
        steps: Optional(whole(1, RANGES.steps.most, 'of the second pass')),
        upscale: Optional(oneOf(['latent', 'image'], "what is enlarged; by default 'latent'")),
        upscaler: Optional(text('name of a network that enlarges images')),
      },
      { description: 'draw small, enlarge and refine' },
    ),
  ),
  image: Optional(image('the image to start from, or to repaint')),
  mask: Optional(image('white where the image is drawn anew')),
  extend: Optional(
    Fields(
      Object.fromEntries(
        ['left', 'right', 'top', 'bottom'].map((side) => [side, Optional(whole(0, RANGES.width.most, 'pixels'))]),
      ),
      { description: 'what is added at each side and drawn' },
    ),
  ),
  convention: Optional(oneOf(['diffusers', 'comfyui'], 'whose rules strength and mask follow')),
  control_image: Optional(image('an edge or depth image, for models that follow one')),
  reference_images: Optional(
    Type.Array(image('an image'), list('images that the prompt refers to, for models that edit')),
  ),
  reference_placement: Optional(oneOf(['offset', 'index', 'uxo'], "where references are placed; by default 'offset'")),
  control_nets: Optional(
    Type.Array(
      Fields({
        name: text('of its file'),
        image: image('what it follows'),
        mode: Optional(
          Type.Union([Type.String(), Type.Integer()], { description: 'of a union ControlNet, such as canny' }),
        ),
        scale: Optional(Type.Number({ description: 'by default 0.7' })),
        start: Optional(number(UNIT, 'share of the steps after which it begins')),
        end: Optional(number(UNIT, 'share of the steps after which it ends')),
      }),
      list('ControlNets; their effects add up'),
    ),
  ),
  redux: Optional(
    Type.Array(
      Fields({
        image: image('guides next to the text'),
        strength: Optional(Type.Number({ description: 'by default 1' })),
        strength_type: Optional(oneOf(['multiply', 'attn_bias'], "what the strength acts on; by default 'multiply'")),
      }),
      list('images that guide next to the text, for models with Redux'),
    ),
  ),
  ip_adapters: Optional(
    Type.Array(
      Fields({
        name: text('of its file'),
        image: image('guides'),
        scale: Optional(Type.Number({ description: 'by default 0.6' })),
      }),
      list('IP-Adapters'),
    ),
  ),
  resize: Optional(
    oneOf(['cover', 'contain', 'stretch', 'none'], "how images are brought to the size; by default 'cover'"),
  ),
  output_format: Optional(oneOf(['png', 'jpeg', 'webp', 'avif'], "by default 'png'")),
  output_compression: Optional(whole(1, 100, 'quality of JPEG, WebP and AVIF')),
  previews: Optional(
    Type.Union([Type.Boolean(), Fields({ every: Optional(whole(1, RANGES.steps.most, 'steps; by default 1')) })], {
      description: 'whether step events show the image as it is so far',
    }),
  ),
})

export type ImageRequestBody = Static<typeof ImageRequestSchema>

/** The names in a body, and of a form's files, that a schema does not have. They are ignored, and named in a header. */
export function unknownNames(body: object, schema: { properties: object }, uploads: object = {}): string[] {
  return [...Object.keys(body), ...Object.keys(uploads)].filter((name) => !Object.hasOwn(schema.properties, name))
}
