import type { FastifyReply } from 'fastify'
import { formatParameters } from '../images/infotext.js'
import type { ModelState } from '../queue/queue.js'
import { granted } from '../queue/wishes.js'
import { VERSION } from '../version.js'
import { samplerLabel } from './a1111-names.js'
import type { A1111Drawing } from './a1111-request.js'
import { timestamp, type Outcome } from './a1111-runs.js'
import type { ImageToImageBody, TextToImageBody } from './a1111-schema.js'
import { fullSize } from './full-size.js'

/** An image of an answer. */
interface Answered {
  /** undefined if an interruption came before there was anything to show */
  file: Buffer | undefined
  width: number
  height: number
  /** from 0, those that were skipped included */
  number: number
  seed: number
  infotext: string
}

/**
 * The answer to `txt2img` and `img2img`. Source: AUTOMATIC1111/stable-diffusion-webui `modules/api/models.py`
 * (`TextToImageResponse`), `modules/processing.py` (`Processed.js`).
 *
 * @param body without what nobody knows here, as clients send passwords along
 */
export async function a1111Answer(
  body: TextToImageBody | ImageToImageBody,
  model: ModelState,
  drawing: A1111Drawing,
  outcome: Outcome,
): Promise<object> {
  const { variation, trueCfg, steps, sampler, hires, strength } = granted(
    drawing.options,
    drawing.wishes,
    model.defaults,
  )
  const answered = await imagesIn(model, drawing, outcome)
  const { prompt = '', negative_prompt = '', send_images = true, batch_size = 1 } = body
  const all = <T>(value: (one: Answered) => T) => answered.map(value)
  const subseeds = all(({ number }) => (variation ? variation.seed + number : -1))
  const { seed, width, height } = answered[0]!
  const info = {
    ...{ prompt, all_prompts: all(() => prompt), negative_prompt, all_negative_prompts: all(() => negative_prompt) },
    ...{ seed, all_seeds: all((one) => one.seed), subseed: subseeds[0], all_subseeds: subseeds },
    ...{ subseed_strength: variation?.strength ?? 0, width, height },
    sampler_name: samplerLabel(sampler),
    cfg_scale: typeof trueCfg === 'number' ? trueCfg : 1,
    ...{ steps: steps ?? model.defaults.steps, batch_size },
    ...{ restore_faces: false, face_restoration_model: null },
    ...{ sd_model_name: model.name, sd_model_hash: null, sd_vae_name: null, sd_vae_hash: null },
    ...{ seed_resize_from_w: -1, seed_resize_from_h: -1 },
    denoising_strength: hires?.strength ?? strength ?? null,
    ...{ extra_generation_params: {}, index_of_first_image: 0 },
    infotexts: all(({ infotext }) => infotext),
    ...{ styles: [], job_timestamp: timestamp(new Date()), clip_skip: 1, is_using_inpainting_conditioning: false },
    version: `ggflux ${VERSION}`,
  }
  const images = send_images ? answered.flatMap(({ file }) => (file ? [file.toString('base64')] : [])) : []
  return { images, parameters: body, info: JSON.stringify(info) }
}

/**
 * The images that were made. Of a request that was interrupted before the first, the one that is unfinished, as in A1111:
 * clients read the first image and its text without a look at how many there are.
 */
async function imagesIn(
  model: ModelState,
  drawing: A1111Drawing,
  { images, unfinished }: Outcome,
): Promise<Answered[]> {
  if (images.length > 0)
    return images.map(({ image: { width, height, seed, parameters }, number, file }) => {
      return { file, width, height, number, seed, infotext: parameters }
    })
  const { defaults } = model
  const options = granted(drawing.options, drawing.wishes, defaults)
  const { width = defaults.width, height = defaults.height, steps = defaults.steps } = options
  const { prompt, negativePrompt, sampler = 'euler', scheduler = 'official', guidance } = options
  const { seed } = drawing.options
  return [
    {
      file: unfinished && (await fullSize(unfinished, { width, height, format: 'png' })),
      ...{ width, height, number: 0, seed },
      infotext: formatParameters({
        ...{ prompt, negativePrompt, steps, sampler, scheduler, guidance, seed, width, height, model: model.name },
      }),
    },
  ]
}

/** What A1111's routes without a result answer; fastify would send nothing for null. */
export function sendNull(reply: FastifyReply): FastifyReply {
  return reply.type('application/json; charset=utf-8').send('null')
}
