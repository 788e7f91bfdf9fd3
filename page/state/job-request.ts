import { dataUri } from '../images/data-uri.ts'
import type { JobRequest, Model } from '../server/wire.ts'
import { controlImage, image, mask, references } from './inputs.ts'
import type { Chosen, Settings } from './settings.ts'

/** The strength of an input image that the server has by default. */
export function defaultStrength(model: Model): number {
  return model.reads === 'fill' ? 1 : 0.6
}

/** What has to change before the image can be drawn, in words. */
export function findProblem(settings: Settings, { model, capabilities: { limits } }: Chosen): string | undefined {
  const { prompt, width, height } = settings
  if (!prompt.trim()) return 'Write what the image shows.'
  if (prompt.length > limits.prompt) return `The prompt has ${prompt.length} characters; ${limits.prompt} are possible.`
  if (model.reads === 'fill' && !image.value) return `${model.id} repaints an image: add one under “Image”.`
  if (model.reads === 'fill' && !mask.value) return `${model.id} needs a mask: paint over what is drawn anew.`
  if (model.reads === 'control' && !controlImage.value)
    return `${model.id} follows edges or depth: add such an image under “Control image”.`
  if ((width ?? 0) * (height ?? 0) > limits.pixels)
    return `${width} × ${height} is too large: the server draws up to ${limits.pixels.toLocaleString('en')} pixels.`
  return undefined
}

/** Only what acts is sent: the server refuses an option that would have no effect. */
export async function buildRequest(settings: Settings, { model }: Chosen): Promise<JobRequest> {
  const { negativePrompt, trueCfg, loras } = settings
  const hasCfg = trueCfg > 1
  const hasMask = image.value && mask.value
  return withoutEmpty({
    ...settings.others,
    model: model.id,
    prompt: settings.prompt,
    negative_prompt: hasCfg && negativePrompt ? negativePrompt : undefined,
    true_cfg: hasCfg ? trueCfg : undefined,
    width: settings.width,
    height: settings.height,
    steps: settings.steps,
    guidance: model.defaults.guidance === null ? undefined : settings.guidance,
    seed: settings.seed,
    count: settings.count,
    sampler: settings.sampler,
    scheduler: settings.scheduler,
    loras: loras.length > 0 ? loras : undefined,
    image: await encode(image.value?.file),
    strength: image.value ? settings.strength : undefined,
    mask: hasMask ? await encode(hasMask.file) : undefined,
    mask_blur: hasMask ? settings.maskBlur : undefined,
    only_masked: hasMask && settings.isOnlyMasked ? true : undefined,
    reference_images:
      model.reads === 'references' && references.value.length > 0
        ? await Promise.all(references.value.map(({ file }) => dataUri(file)))
        : undefined,
    control_image: model.reads === 'control' ? await encode(controlImage.value?.file) : undefined,
    output_format: settings.format,
    output_compression: settings.format === 'png' ? undefined : settings.quality,
    previews: true,
  }) as unknown as JobRequest
}

const encode = async (file: Blob | undefined) => file && dataUri(file)

function withoutEmpty(request: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined && value !== null))
}
