import { FluxError } from '../errors.js'
import type { DrawOptions } from '../pipeline/engine.js'
import type { JobRequest, ModelDescription } from '../queue/queue.js'
import { granted } from '../queue/wishes.js'
import type { ServerContext } from './context.js'

interface Size {
  width: number
  height: number
}

/**
 * Refuses what one request may not take.
 *
 * @throws {FluxError} FLUX_BAD_OPTION; as `readImageSize`
 */
export async function requireWithinLimits(
  context: ServerContext,
  { options: given, wishes = {} }: JobRequest,
  { defaults }: Pick<ModelDescription, 'defaults'>,
): Promise<void> {
  const { limits } = context.settings
  const options = granted(given, wishes, defaults)
  const {
    prompt,
    negativePrompt = '',
    count = 1,
    steps = defaults.steps,
    sigmas = [],
    hires,
    image,
    loras = [],
  } = options
  const within = (what: string, value: number, most: number, unit = '') => {
    if (value > most)
      throw new FluxError('FLUX_BAD_OPTION', `${what} is ${value}${unit}: this server allows at most ${most}${unit}`)
  }
  within('prompt', prompt.length, limits.prompt, ' characters')
  within('negativePrompt', negativePrompt.length, limits.prompt, ' characters')
  within('count', count, limits.count)
  within('loras', loras.length, limits.loras)
  within('steps', Math.max(steps, hires?.steps ?? 0, sigmas.length), limits.steps)
  const shown = image instanceof Uint8Array ? await context.imageSize('image', image) : undefined
  const size = drawnSize(options, defaults, shown)
  const large = hires ? enlargedSize(hires, size) : size
  within('width x height', Math.round(large.width * large.height), limits.pixels, ' pixels')
}

/**
 * The size of an image, as the pipeline chooses it.
 *
 * @param image the size of the image that it starts from
 */
function drawnSize({ width, height, extend = {} }: DrawOptions, defaults: Size, image: Size | undefined): Size {
  const { left = 0, right = 0, top = 0, bottom = 0 } = extend
  if (!image) return { width: width ?? defaults.width, height: height ?? defaults.height }
  const canvas = { width: image.width + left + right, height: image.height + top + bottom }
  return {
    width: width ?? (height === undefined ? canvas.width : (height * canvas.width) / canvas.height),
    height: height ?? (width === undefined ? canvas.height : (width * canvas.height) / canvas.width),
  }
}

function enlargedSize({ width, height, scale = 2 }: NonNullable<DrawOptions['hires']>, first: Size): Size {
  if (width !== undefined && height !== undefined) return { width, height }
  return { width: first.width * scale, height: first.height * scale }
}
