import { freemem, totalmem } from 'node:os'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { parseParameters } from '../images/infotext.js'
import { readParameters } from '../images/read-parameters.js'
import { sendNull } from './a1111-answer.js'
import { loraAlias } from './a1111-loras.js'
import { samplerItems, schedulerItems } from './a1111-names.js'
import type { ServerContext } from './context.js'
import { image } from './request-schema.js'

const TAGS = ['a1111']

/** What there is to choose from, in A1111's form. No path of the server is shown. */
export const a1111Lists: FastifyPluginAsyncTypebox<{ context: ServerContext }> = async (app, { context }) => {
  const { queue } = context
  const list = (name: string, summary: string, items: () => Promise<object> | object) =>
    app.get(`/sdapi/v1/${name}`, { schema: { tags: TAGS, summary } }, async () => items())

  list('sd-models', 'The models', async () =>
    (await queue.models()).map(({ name }) => ({
      ...{ title: name, model_name: name, hash: null, sha256: null, filename: name, config: null },
    })),
  )
  list('samplers', 'The samplers', () => samplerItems)
  list('schedulers', 'The schedulers', () => schedulerItems)
  // SillyTavern adds the latent modes after the first one
  list('upscalers', 'What enlarges images', async () =>
    ['None', 'Lanczos', ...(await queue.upscalers())].map((name) => ({
      ...{ name, model_name: null, model_path: null, model_url: null, scale: 4 },
    })),
  )
  list('latent-upscale-modes', 'What enlarges latents', () => [{ name: 'Latent' }])
  list('sd-vae', 'No VAEs: a model has its own', () => [])
  list('sd-modules', 'No modules: a model has its own', () => [])
  list('loras', 'The LoRAs', async () =>
    (await queue.loras()).map((name) => ({ name: loraAlias(name), alias: loraAlias(name), path: name, metadata: {} })),
  )
  list('memory', 'The memory in bytes, of the server and of the device that computes', async () => {
    const [free, total] = [freemem(), totalmem()]
    const gpu = (await queue.devices()).find(({ name }) => name !== 'CPU')
    const cuda = gpu
      ? { system: { free: gpu.memoryFree, used: gpu.memoryTotal - gpu.memoryFree, total: gpu.memoryTotal } }
      : { error: 'unavailable' }
    return { ram: { free, used: total - free, total }, cuda }
  })

  // listings are read again every few seconds
  for (const name of ['refresh-loras', 'refresh-checkpoints', 'refresh-vae'])
    app.post(`/sdapi/v1/${name}`, { schema: { tags: TAGS, summary: 'Has no effect' } }, async (_, reply) =>
      sendNull(reply),
    )

  app.post(
    '/sdapi/v1/png-info',
    {
      schema: {
        tags: TAGS,
        summary: 'The settings that an image was made with',
        body: Type.Object({ image: image('a file that ggflux, A1111, Forge or ComfyUI wrote') }),
      },
    },
    async (request) => {
      const found = await readParameters(await context.image('image', request.body.image))
      if (!found) return { info: '', items: {}, parameters: {} }
      const { text, writer } = found
      if (writer === 'comfyui') return { info: text, items: { prompt: text }, parameters: {} }
      return { info: text, items: { parameters: text }, parameters: fieldsOf(text) }
    },
  )
}

/** By A1111's names. Source: `modules/infotext_utils.py` (`parse_generation_parameters`). */
function fieldsOf(text: string): Record<string, string> {
  const found = parseParameters(text)
  const fields: (readonly [string, string | undefined])[] = [
    ['Prompt', found.prompt],
    ['Negative prompt', found.negativePrompt ?? ''],
    ['Steps', found.steps],
    ['Sampler', found.sampler],
    ['Schedule type', found.scheduler],
    ['CFG scale', found.trueCfg],
    ['Distilled CFG Scale', found.guidance],
    ['Seed', found.seed],
    ['Size-1', found.width],
    ['Size-2', found.height],
    ...found.unmapped,
  ]
  return Object.fromEntries(fields.filter((entry): entry is readonly [string, string] => entry[1] !== undefined))
}
