import { Type, type Static } from 'typebox'
import { image } from './request-schema.js'

const { Optional } = Type
const text = (description: string) => Optional(Type.String({ description }))
const flag = (description: string) => Optional(Type.Boolean({ description }))
const whole = (description: string, minimum?: number) =>
  Optional(Type.Integer({ description, ...(minimum === undefined ? {} : { minimum }) }))
const number = (description: string, minimum?: number, maximum?: number) =>
  Optional(
    Type.Number({
      description,
      ...(minimum === undefined ? {} : { minimum }),
      ...(maximum === undefined ? {} : { maximum }),
    }),
  )

const COMMON = {
  prompt: text('what the image shows; `<lora:name:0.8>` applies a LoRA'),
  negative_prompt: text('taken next to true CFG only, see cfg_scale'),
  model: text('as in sd-models; by default sd_model_checkpoint of the options'),
  override_settings: Optional(
    Type.Object(
      { sd_model_checkpoint: text('the model of this request') },
      { description: 'the others have no effect here' },
    ),
  ),
  width: whole('pixels, brought to a multiple of 16', 1),
  height: whole('like width', 1),
  steps: whole("taken by models with many steps; by default the model's own", 0),
  cfg_scale: number('scale of true CFG, if the server allows it (a1111Settings); otherwise without effect'),
  distilled_cfg_scale: number('strength of the prompt, for models with guidance'),
  seed: whole('-1: a random one'),
  subseed: whole('-1: a random one'),
  subseed_strength: number('0 (the image of seed) to 1 (that of subseed)', 0, 1),
  batch_size: whole('number of images', 1),
  n_iter: whole('times as many images', 1),
  sampler_name: text("a label such as 'Euler a', or ComfyUI's name; one that does not exist means Euler"),
  sampler_index: text('older name of sampler_name'),
  scheduler: text("a label such as 'Karras', or ComfyUI's name"),
  send_images: flag('false: the answer has no images'),
}

export const TextToImageSchema = Type.Object({
  ...COMMON,
  enable_hr: flag('draw small, enlarge and refine'),
  hr_scale: number('times width and height, 2 by default'),
  hr_resize_x: whole('width of the result, in place of hr_scale; 0: from the other side', 0),
  hr_resize_y: whole('height of the result', 0),
  hr_upscaler: text("as in upscalers and latent-upscale-modes; by default 'Latent'"),
  hr_second_pass_steps: whole('0: those of the first pass', 0),
  denoising_strength: number('how much of the enlarged image changes, 0.75 by default', 0, 1),
})

export const ImageToImageSchema = Type.Object({
  ...COMMON,
  init_images: Optional(
    Type.Array(image('the image to start from'), {
      maxItems: 8,
      description: 'one; several for models that edit with references',
    }),
  ),
  denoising_strength: number('how much of the image changes, 0.75 by default', 0, 1),
  resize_mode: Optional(
    Type.Integer({ minimum: 0, maximum: 3, description: '0 and 3 stretch, 1 crops, 2 adds borders' }),
  ),
  mask: Optional(image('white where the image is drawn anew')),
  mask_blur: number('pixels by which the edge of the mask is softened, 4 by default', 0),
  mask_blur_x: number('like mask_blur; the larger one is taken for both directions', 0),
  mask_blur_y: number('like mask_blur_x', 0),
  inpainting_mask_invert: whole('1: black is drawn anew'),
  inpaint_full_res: flag('draw only the masked part, as large as the image, and paste it back; true by default'),
  inpaint_full_res_padding: whole('pixels around the mask that are seen as well, 0 by default', 0),
})

export type TextToImageBody = Static<typeof TextToImageSchema>
export type ImageToImageBody = Static<typeof ImageToImageSchema>
