import type { FluxErrorCode } from '../errors.js'
import type { Variant } from '../families/family.js'
import type { Stage } from '../jobs/events.js'
import type { DrawOptions } from '../pipeline/engine.js'

/** What a client asked for, as plain data that another machine can carry out. */
export interface JobRequest {
  /** a name in the catalogue of models */
  model: string
  /**
   * as for `generate`, with two differences: `path` is a name in the catalogue of files, never a path, and an image is
   * the bytes of a file. `preview.every` asks for previews
   */
  options: DrawOptions
  wishes?: Wishes
}

/** What is taken if the model has a use for it, and dropped otherwise: clients send values for other models. */
export interface Wishes {
  /** taken by models with many steps */
  steps?: number
  /** taken by models with guidance */
  guidance?: number
  /** taken next to `trueCfg` above 1 */
  negativePrompt?: string
  /** more or fewer steps, for models with many */
  quality?: 'low' | 'medium' | 'high' | 'xhigh' | 'max'
}

/** What a job did, numbered from 1. Plain data. */
export type JobEvent = { id: number } & (
  | { type: 'waiting'; position: number }
  | { type: 'started' }
  | { type: 'stage'; stage: Stage }
  | { type: 'step'; index: number; step: number; steps: number; secondsLeft: number | null; preview?: JobPreview }
  | { type: 'warning'; message: string }
  | ({ type: 'image' } & JobImage)
  | { type: 'completed' }
  | { type: 'failed'; code: JobErrorCode; message: string }
  | { type: 'cancelled'; message: string }
)

export interface JobPreview {
  format: 'png'
  /** at most 512 */
  width: number
  height: number
  /** the file, as base64 */
  data: string
}

/** An image that was made. Its bytes are in the store. */
export interface JobImage {
  /** from 0 */
  index: number
  format: string
  width: number
  height: number
  seed: number
  /** in A1111's form */
  parameters: string
  /** names of the text encoders that received only the start of the prompt */
  truncated: string[]
  /** milliseconds by stage */
  timings: Record<Stage, number>
}

/** `INTERNAL`: a fault of ours, with the details in the log */
export type JobErrorCode = FluxErrorCode | 'INTERNAL'

export type JobState = 'waiting' | 'running' | 'completed' | 'failed' | 'cancelled'

/** How far a job is. Plain data. */
export interface JobStatus {
  id: string
  model: string
  /** in milliseconds since 1970 */
  createdAt: number
  state: JobState
  /** number of jobs ahead of it, 0 once it runs */
  position: number
  stage: Stage | null
  /** of the image that is being made, from 0 */
  index: number
  /** number of images */
  count: number
  step: number
  /** 0 as long as it is unknown */
  steps: number
  /** share of the steps that are done, 0 to 1 */
  progress: number
  /** until the last image; null as long as it is unknown */
  secondsLeft: number | null
  warnings: string[]
  images: JobImage[]
  error: { code: JobErrorCode; message: string } | null
  /** number of the last event */
  lastEvent: number
}

/** One request in a queue, wherever it is carried out. */
export interface QueuedJob {
  readonly id: string
  status(): Promise<JobStatus>
  /**
   * The events after number `after` until the last one, which is `completed`, `failed` or `cancelled`. Any number of
   * readers; none delays the job. Old previews may be missing.
   */
  events(after?: number, signal?: AbortSignal): AsyncGenerator<JobEvent, void, undefined>
  /** the bytes of an image that was made; undefined once it has been deleted */
  image(index: number): Promise<Buffer | undefined>
  /** Ends it, waiting or running, within a step. Does nothing once it is over. */
  cancel(): Promise<void>
}

export interface AddOptions {
  /** who asked, for the limit of jobs per client */
  client: string
  /** letters, digits, `-`, `.` and `_`; a second job with the same id is the first one */
  id?: string
  /** higher is earlier, -100 to 100 @default 0 */
  priority?: number
  /** differs between two requests with the same id */
  fingerprint?: string
}

export interface QueueCounts {
  waiting: number
  running: number
  /** processes that take jobs */
  workers: number
}

/** What clients see of a model. Plain data. */
export interface ModelDescription {
  name: string
  /** in milliseconds since 1970 */
  changedAt: number
  /** of its weights */
  bytes: number
  defaults: { width: number; height: number; steps: number; guidance: number | null }
  /** the images that it takes, see `Variant` */
  reads: NonNullable<Variant['reads']> | null
  /** see `Variant` */
  editsReferences: boolean
  /** the names of its networks */
  components: string[]
  /** whether it has a decoder for previews */
  hasPreviewDecoder: boolean
}

export interface ModelState extends ModelDescription {
  /** a worker has it in memory */
  loaded: boolean
}

/** Takes requests and has them carried out: in this process, or by workers on other machines. */
export interface ImageQueue {
  /**
   * @throws {FluxError} FLUX_BUSY if the queue, or the client's part of it, is full; FLUX_BAD_OPTION if `id` is that of a
   *   job with another fingerprint; FLUX_NOT_FOUND if no worker has the model; FLUX_CLOSED if the queue is closed, or
   *   cannot be reached
   */
  add(request: JobRequest, options: AddOptions): Promise<QueuedJob>
  /** undefined if there is none, or it ended too long ago */
  get(id: string): Promise<QueuedJob | undefined>
  counts(): Promise<QueueCounts>
  models(): Promise<ModelState[]>
  /** names of LoRAs */
  loras(): Promise<string[]>
  /** names of networks that enlarge images */
  upscalers(): Promise<string[]>
  /** memory of the devices that compute, by name, in bytes; those that are in use */
  devices(): Promise<{ name: string; memoryFree: number; memoryTotal: number }[]>
  /** called with every job that was added here and ends */
  onEnd(listener: (status: JobStatus) => void): void
  /**
   * Takes no more requests. A queue in this process cancels jobs that wait, and waits for those that run; other processes
   * go on with theirs.
   *
   * @param patience milliseconds after which what runs in this process is cancelled as well
   */
  close(patience: number): Promise<void>
}
