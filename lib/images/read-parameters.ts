import { badOption, requireOptions } from '../options/checks.js'
import { readWorkflow } from './comfyui-workflow.js'
import { readImageFile } from './image-file.js'
import { imageTexts, USER_COMMENT } from './image-text.js'
import { parseParameters } from './infotext.js'
import { restoreOptions, type FoundParameters, type RestoredOptions } from './restore-options.js'

/** How an image was made. */
export interface ImageParameters {
  /** the program that wrote it; 'a1111' is also Forge and others with the same form */
  writer: 'ggflux' | 'a1111' | 'comfyui'
  /** for `generate`, each checked and by its name here */
  options: RestoredOptions
  /** by the names of the other program, which are not paths here: find the files, and give them as `loras` */
  loras: { name: string; scale: number }[]
  /** what has no option here, or an invalid value, by its name in the image */
  unmapped: Record<string, string>
  /** all of it as it is stored: A1111's text or ComfyUI's JSON */
  text: string
}

/**
 * Reads how an image was made, from what ggflux, A1111 (and Forge) and ComfyUI write: text chunks of a PNG, EXIF of a
 * JPEG, WebP or PNG, and with sharp of an AVIF. The pixels are not decoded.
 *
 * @param source a path, or the bytes of a file
 * @returns undefined for an image without such texts
 * @throws FluxError FLUX_NOT_FOUND; FLUX_BAD_FILE for what is no image; FLUX_UNSUPPORTED for more than 256 MiB or 16 MiB
 *   of text, and for an AVIF without sharp
 */
export async function readParameters(
  source: string | Uint8Array,
  options: { name?: string } = {},
): Promise<ImageParameters | undefined> {
  requireOptions('the options of readParameters', options, ['name'])
  const { name = 'image' } = options
  if (!(typeof source === 'string' && source !== '') && !(source instanceof Uint8Array))
    throw badOption(name, source, 'a path, or the bytes of an image file')
  const texts = await imageTexts(await readImageFile(name, source))

  const comment = texts.get(USER_COMMENT)
  const plain = texts.get('parameters') ?? (comment?.startsWith('{') ? undefined : comment)
  if (plain !== undefined) {
    const found = parseParameters(plain)
    return restored(found.isOurs ? 'ggflux' : 'a1111', found, plain)
  }
  for (const text of [texts.get('prompt'), promptIn(comment)]) {
    const found = text && readWorkflow(text)
    if (found) return restored('comfyui', found, text)
  }
  return undefined
}

function restored(writer: ImageParameters['writer'], found: FoundParameters, text: string): ImageParameters {
  return { writer, ...restoreOptions(found), loras: found.loras, text }
}

/** Other nodes of ComfyUI save one JSON object with `prompt` and `workflow`. */
function promptIn(comment: string | undefined): string | undefined {
  if (!comment) return undefined
  try {
    const { prompt } = JSON.parse(comment)
    return typeof prompt === 'string' ? prompt : JSON.stringify(prompt)
  } catch {
    return undefined
  }
}
