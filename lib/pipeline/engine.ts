import type { Estimate } from '../cost/estimate.js'
import type { GenerateEvent, ImageEvent } from '../jobs/events.js'
import type { Device } from '../native/devices.js'
import type { ProfileRow } from '../networks/network.js'
import type { GenerateOptions } from './generate-options.js'

/** Options of one request, without what belongs to the caller's process. */
export type DrawOptions = Omit<GenerateOptions, 'signal' | 'onWarning'>

/** Makes the images of a pipeline, one request at a time: in this process, or in a child process. */
export interface Engine {
  /** @param options with the seed that was chosen; they have been checked */
  draw(
    options: DrawOptions & { seed: number },
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent, ImageEvent, undefined>
  estimate(options: DrawOptions, signal?: AbortSignal): Promise<Estimate>
  profile(work: () => Promise<unknown>): Promise<ProfileRow[]>
  /** what it computes on, with the memory that is free now */
  device(): Promise<Device>
  /** whether `close` may be called while it draws, which ends that at once */
  readonly endsAtOnce: boolean
  close(): Promise<void>
}
