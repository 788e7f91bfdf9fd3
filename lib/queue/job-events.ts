import { FluxError } from '../errors.js'
import type { LatentPreview } from '../families/latent-preview.js'
import { encodeImage } from '../images/encode.js'
import { resizeImage } from '../images/resize.js'
import type { HostEvent } from './model-host.js'
import type { JobErrorCode, JobEvent, JobPreview } from './queue.js'

type Unnumbered<T> = T extends { id: number } ? Omit<T, 'id'> : never
/** an event that has no number yet */
export type NewJobEvent = Unnumbered<JobEvent>

/** the longer side of a preview, in pixels */
const MOST_PREVIEW = 512

/**
 * Turns the events of a pipeline into those of a job, from `started` to `completed`.
 *
 * @param keep stores the bytes of an image
 */
export async function* jobEvents(
  events: AsyncIterable<HostEvent>,
  keep: (index: number, image: Buffer) => Promise<void>,
): AsyncGenerator<NewJobEvent, void, undefined> {
  yield { type: 'started' }
  for await (const event of events) {
    if (event.type === 'step') {
      const { index, step, steps, secondsLeft = null, preview } = event
      const shown = preview ? { preview: await previewFile(preview) } : {}
      yield { type: 'step', index, step, steps, secondsLeft, ...shown }
    } else if (event.type === 'image') {
      const { index, image, format, width, height, seed, parameters, truncated, timings } = event
      await keep(index, image)
      yield { type: 'image', index, format, width, height, seed, parameters, truncated, timings }
    } else yield event
  }
  yield { type: 'completed' }
}

/** The last event of a job that an error ended. */
export function failure(error: unknown): NewJobEvent & { type: 'failed' } {
  const code: JobErrorCode = error instanceof FluxError ? error.code : 'INTERNAL'
  const message =
    error instanceof FluxError ? withoutFolders(error.message) : 'a fault of the server; its log has the details'
  return { type: 'failed', code, message }
}

/** Clients learn the names of files, not where they are. */
function withoutFolders(message: string): string {
  return message.replace(/(?:\b[A-Za-z]:|(?<![\w.:/]))[\\/](?:[^\s:'"\\/]+[\\/])+(?=[^\s:'"\\/])/g, '')
}

async function previewFile(preview: LatentPreview): Promise<JobPreview> {
  const share = Math.min(1, MOST_PREVIEW / Math.max(preview.width, preview.height))
  const [width, height] = [Math.round(preview.width * share), Math.round(preview.height * share)]
  const { data } = share < 1 ? await resizeImage(preview, width, height, 'stretch') : preview
  const file = await encodeImage(data, width, height, { format: 'png' })
  return { format: 'png', width, height, data: file.toString('base64') }
}
