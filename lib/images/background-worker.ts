import { parentPort } from 'node:worker_threads'
import { toBytes } from './pixels.js'
import { encodePng } from './png.js'
import { gaussianNoise } from '../sampling/noise.js'

/** What the background thread can do: computations on pictures that would hold up the event loop for tens of milliseconds. */
const JOBS = { encodePng, toBytes, gaussianNoise }

export type Jobs = typeof JOBS

/** What the thread is asked for. */
export interface Request<Job extends keyof Jobs = keyof Jobs> {
  id: number
  job: Job
  args: Parameters<Jobs[Job]>
  /** buffers of `args` that were moved here */
  moved: ArrayBuffer[]
}

/** What it answers to the request of that number. */
export type Answer = { id: number; moved: ArrayBuffer[] } & (
  | { result: ReturnType<Jobs[keyof Jobs]> }
  | { error: unknown }
)

// Moved buffers go back with the answer: here they would wait for a garbage collection that an idle thread never has.
parentPort!.on('message', ({ id, job, args, moved }: Request) => {
  const answer = (message: Answer, transfer: ArrayBuffer[] = []) =>
    parentPort!.postMessage(message, [...moved, ...transfer])
  try {
    const result = (JOBS[job] as (...args: unknown[]) => ReturnType<Jobs[keyof Jobs]>)(...args)
    answer({ id, moved, result }, [result.buffer as ArrayBuffer])
  } catch (error) {
    answer({ id, moved, error })
  }
})
