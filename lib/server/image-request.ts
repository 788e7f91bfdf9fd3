import type { DrawOptions } from '../pipeline/engine.js'
import type { ServerContext } from './context.js'
import type { ImageRequestBody } from './request-schema.js'
import { fromWire } from './wire.js'

/** Turns a request in our own form into options. */
export async function toDrawOptions(
  context: ServerContext,
  body: ImageRequestBody,
  uploads: Record<string, Buffer[]> = {},
): Promise<DrawOptions> {
  const { model: _, on_disconnect: _1, priority: _2, ...rest } = body
  const { output_format, output_compression, previews, loras, control_nets, ip_adapters, ...fields } = rest
  const image = (name: string, value: string | Buffer) => context.image(name, value)
  const sent = (name: 'image' | 'mask' | 'control_image') => uploads[name]?.[0] ?? fields[name]
  const images: Partial<DrawOptions> = {}
  const [start, mask, control] = [sent('image'), sent('mask'), sent('control_image')]
  if (start !== undefined) images.image = await image('image', start)
  if (mask !== undefined) images.mask = await image('mask', mask)
  if (control !== undefined) images.controlImage = await image('controlImage', control)
  const references = [...(uploads.reference_images ?? []), ...(fields.reference_images ?? [])]
  if (references.length > 0)
    images.referenceImages = await Promise.all(references.map((one, i) => image(`referenceImages[${i}]`, one)))
  if (control_nets)
    images.controlNets = await Promise.all(
      control_nets.map(async ({ name, ...net }, i) => {
        return { ...net, path: name, image: await image(`controlNets[${i}].image`, net.image) }
      }),
    )
  if (fields.redux)
    images.redux = await Promise.all(
      fields.redux.map(async ({ strength_type, ...one }, i) => ({
        ...one,
        ...(strength_type ? { strengthType: strength_type } : {}),
        image: await image(`redux[${i}].image`, one.image),
      })),
    )
  if (ip_adapters)
    images.ipAdapters = await Promise.all(
      ip_adapters.map(async ({ name, ...adapter }, i) => ({
        ...adapter,
        path: name,
        image: await image(`ipAdapters[${i}].image`, adapter.image),
      })),
    )
  const { image: _3, mask: _4, control_image: _5, reference_images: _6, redux: _7, ...plain } = fields
  return {
    ...(fromWire(plain) as DrawOptions),
    ...images,
    ...(loras ? { loras: toLoras(loras) } : {}),
    ...(output_format ? { format: output_format } : {}),
    ...(output_compression === undefined ? {} : { quality: output_compression }),
    ...(previews ? { preview: { every: previews === true ? 1 : (previews.every ?? 1) } } : {}),
  }
}

/** LoRAs by name; `path` holds the name until a worker finds the file. */
export function toLoras(loras: NonNullable<ImageRequestBody['loras']>): NonNullable<DrawOptions['loras']> {
  return loras.map(({ name, scale }) => ({ path: name, ...(scale === undefined ? {} : { scale }) }))
}
