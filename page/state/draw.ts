import { signal } from '@preact/signals'
import { request } from '../server/request.ts'
import { RequestError } from '../server/request-error.ts'
import type { Job } from '../server/wire.ts'
import { image } from './inputs.ts'
import { buildRequest, findProblem } from './job-request.ts'
import { followJob } from './jobs.ts'
import { notify, notifyError } from './notices.ts'
import { selectedId } from './selection.ts'
import { change, chosen, randomSeed, settings, type Chosen, type Settings } from './settings.ts'

/** The images are on their way to the server. */
export const isSending = signal(false)

/** Sends the settings to the server as a new job, and shows it. */
export async function draw(): Promise<void> {
  const choice = chosen.value
  if (isSending.value || !choice) return
  const problem = findProblem(settings.value, choice)
  if (problem) return notifyError(problem)
  if (!settings.value.isSeedLocked) change({ seed: randomSeed() })
  const used = { ...settings.value, model: choice.model.id }
  isSending.value = true
  try {
    const body = await buildRequest(used, choice)
    const response = await request('v1/jobs', { method: 'POST', body })
    const job: Job = await response.json()
    const ignored = response.headers.get('x-ggflux-warning')
    if (ignored) notify(`The server does not know, and ignored: ${ignored}.`)
    selectedId.value = job.id
    const isFromImages = Boolean(body.image || body.reference_images || body.control_image)
    followJob({ id: job.id, settings: used, ...expectedSize(used, choice), isFromImages, count: job.count }, job)
  } catch (error) {
    const isTemporary = error instanceof RequestError && (error.isTemporary || error.status === 429)
    notifyError(error, isTemporary ? { label: 'Try again', run: () => void draw() } : undefined)
  } finally {
    isSending.value = false
  }
}

function expectedSize({ width, height }: Settings, { model: { defaults } }: Chosen): { width: number; height: number } {
  if (width === null && height === null && image.value) return { width: image.value.width, height: image.value.height }
  return { width: width ?? defaults.width, height: height ?? defaults.height }
}
