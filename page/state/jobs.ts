import { batch, signal } from '@preact/signals'
import { jobEvents } from '../server/job-events.ts'
import { persistentRequest, request } from '../server/request.ts'
import { RequestError } from '../server/request-error.ts'
import type { Job, JobEvent, JobImage, JobState, Stage } from '../server/wire.ts'
import { announce } from './announcement.ts'
import { addImage } from './gallery.ts'
import { notify, notifyError } from './notices.ts'
import { selectedId } from './selection.ts'
import type { Settings } from './settings.ts'
import { stored } from './stored.ts'
import { message } from './words.ts'

/** A job of this browser that is not done, or failed. */
export interface PageJob {
  id: string
  state: JobState
  settings: Settings
  /** of the image that is expected */
  width: number
  height: number
  isFromImages: boolean
  position: number
  stage: Stage | null
  index: number
  count: number
  step: number
  steps: number
  secondsLeft: number | null
  /** address of the latest preview */
  preview: string | null
  isConnected: boolean
  error: string | null
}

type Known = Pick<PageJob, 'id' | 'settings' | 'width' | 'height' | 'isFromImages' | 'count'>

/** In the order in which they are drawn. */
export const jobs = signal<PageJob[]>([])

/** What is needed to follow the jobs again after a reload. */
const known = stored<Known[]>('ggflux.jobs', [])

/** A browser has six connections to a server, over all its tabs, and an event stream takes one. */
const MOST_STREAMS = 2
const POLL_MS = 3000

let streams = 0

export function resumeJobs(): void {
  const before = known.value
  known.value = []
  for (const job of before) followJob(job, { position: 0 })
}

export function followJob(job: Known, { position }: Pick<Job, 'position'>): void {
  const followed: PageJob = {
    ...job,
    state: 'waiting',
    position,
    stage: null,
    index: 0,
    step: 0,
    steps: 0,
    secondsLeft: null,
    preview: null,
    isConnected: true,
    error: null,
  }
  jobs.value = [...jobs.value, followed]
  known.value = [...known.value, job]
  void follow(job)
}

export async function cancelJob(id: string): Promise<void> {
  if (jobs.value.find((job) => job.id === id)?.state === 'failed') return drop(id)
  try {
    await request(`v1/jobs/${id}`, { method: 'DELETE' })
  } catch (error) {
    // the server does not have it any more
    if (error instanceof RequestError && error.status === 404) drop(id)
    else notifyError(error)
  }
}

/** The share of all steps that are done. Decoding counts as one more step. */
export function progress({ index, count, step, steps }: PageJob): number {
  return (index + step / (steps + 1)) / count
}

function update(id: string, changes: Partial<PageJob>): void {
  jobs.value = jobs.value.map((job) => (job.id === id ? { ...job, ...changes } : job))
}

function drop(id: string): void {
  forget(id)
  jobs.value = jobs.value.filter((job) => job.id !== id)
}

function forget(id: string): void {
  known.value = known.value.filter((job) => job.id !== id)
}

/** A failed job stays until the user dismisses it. */
function fail(id: string, error: string): void {
  forget(id)
  update(id, { state: 'failed', error })
  if (selectedId.value === id) announce(error)
  else notifyError(error)
}

async function follow(job: Known): Promise<void> {
  const { id } = job
  const onConnection = (isConnected: boolean) => update(id, { isConnected })
  try {
    await takeStream(id)
    try {
      for await (const event of jobEvents(id, onConnection)) await apply(job, event, onConnection)
    } finally {
      streams--
    }
  } catch (error) {
    const isGone = error instanceof RequestError && error.status === 404
    fail(id, isGone ? 'The server does not have this job any more. Draw it again.' : message(error))
  }
}

/** Waits until the job may have a stream. Meanwhile its position is asked for. */
async function takeStream(id: string): Promise<void> {
  while (streams >= MOST_STREAMS) {
    const { state, position }: Job = await (await persistentRequest(`v1/jobs/${id}`, {}, () => {})).json()
    update(id, { state: state === 'running' ? 'running' : 'waiting', position })
    if (state !== 'waiting' && state !== 'running') break
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  streams++
}

async function apply(job: Known, event: JobEvent, onConnection: (isConnected: boolean) => void): Promise<void> {
  const { id } = job
  switch (event.type) {
    case 'waiting':
      return update(id, { position: event.data.position })
    case 'started':
      announce('Drawing.')
      return update(id, { state: 'running', position: 0 })
    case 'stage':
      return update(id, { stage: event.data.stage })
    case 'step': {
      const { index, step, steps, seconds_left: secondsLeft, preview } = event.data
      return update(id, {
        index,
        step,
        steps,
        secondsLeft,
        ...(preview && { preview: `data:image/${preview.format};base64,${preview.data}` }),
      })
    }
    case 'warning':
      return notify(event.data.message)
    case 'image':
      if (event.data.truncated.length > 0) notify('The prompt is longer than the model reads: its end had no effect.')
      return keepImage(job, event.data, onConnection)
    case 'completed':
      announce(job.count > 1 ? 'All images are done.' : 'The image is done.')
      return complete(job)
    case 'failed':
      return fail(id, event.data.message)
    case 'cancelled':
      announce('Cancelled.')
      return drop(id)
  }
}

async function keepImage(
  { id, settings, isFromImages }: Known,
  { index, format, width, height, seed, parameters }: JobImage,
  onConnection: (isConnected: boolean) => void,
): Promise<void> {
  const response = await persistentRequest(`v1/jobs/${id}/images/${index}`, {}, onConnection)
  await addImage({
    id: imageId(id, index),
    made: Date.now(),
    file: await response.blob(),
    format,
    width,
    height,
    settings: { ...settings, seed, isSeedLocked: true, count: 1 },
    isFromImages,
    parameters,
  })
}

/** The stage goes over from the job to its last image. */
function complete({ id, count }: Known): void {
  batch(() => {
    if (selectedId.value === id) selectedId.value = imageId(id, count - 1)
    drop(id)
  })
}

const imageId = (job: string, index: number) => `${job}/${index}`
