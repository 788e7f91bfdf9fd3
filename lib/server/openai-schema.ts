import { Type, type Static } from 'typebox'
import { DRAWING, image } from './request-schema.js'

const { Optional } = Type

const QUALITIES = ['auto', 'low', 'medium', 'high', 'xhigh', 'max', 'standard', 'hd'] as const

const COMMON = {
  model: Optional(Type.String({ description: 'as in /v1/models; names of OpenAI mean the default model' })),
  n: Optional(Type.Integer({ minimum: 1, maximum: 64, description: 'number of images, 1 by default' })),
  size: Optional(Type.String({ maxLength: 20, description: "WIDTHxHEIGHT in multiples of 16, or 'auto'" })),
  quality: Optional(
    Type.Enum([...QUALITIES], {
      description: 'more or fewer steps, for models with many; by default the usual number',
    }),
  ),
  output_format: Optional(Type.String({ maxLength: 20, description: 'png (the default), jpeg, webp or avif' })),
  output_compression: Optional(
    Type.Integer({ minimum: 0, maximum: 100, description: 'quality of JPEG, WebP and AVIF' }),
  ),
  background: Optional(
    Type.Enum(['auto', 'opaque', 'transparent'], { description: 'images are opaque; transparent is ignored' }),
  ),
  response_format: Optional(Type.Enum(['b64_json', 'url'], { description: "by default 'b64_json'" })),
  user: Optional(Type.String({ description: 'ignored' })),
  stream: Optional(Type.Boolean({ description: 'answer with server-sent events' })),
  partial_images: Optional(
    Type.Integer({ minimum: 0, maximum: 3, description: 'how many previews of each image a stream shows' }),
  ),
  ...DRAWING,
}

export const GenerationSchema = Type.Object({
  prompt: Type.String({ description: 'what the image shows' }),
  ...COMMON,
})

const images = Type.Union([image('an image'), Type.Array(image('an image'), { maxItems: 16 })], {
  description: 'one image or several (image files)',
})

export const EditSchema = Type.Object({
  prompt: Type.String({ description: 'what the image shows, or what changes' }),
  image: Optional(images),
  images: Optional(
    Type.Array(
      Type.Union([
        image('an image'),
        Type.Object({ image_url: Optional(image('an image')), file_id: Optional(Type.String()) }),
      ]),
      { maxItems: 16, description: 'the same, as OpenAI has it in JSON' },
    ),
  ),
  mask: Optional(
    Type.Union(
      [image('the mask'), Type.Object({ image_url: Optional(image('the mask')), file_id: Optional(Type.String()) })],
      {
        description:
          'an image file of the size of the image: transparent where it is drawn anew, or white there if it has no alpha channel',
      },
    ),
  ),
  ...COMMON,
})

export const VariationSchema = Type.Object({ image: Optional(images), ...COMMON })

export type GenerationBody = Static<typeof GenerationSchema>
export type EditBody = Static<typeof EditSchema>
export type VariationBody = Static<typeof VariationSchema>
