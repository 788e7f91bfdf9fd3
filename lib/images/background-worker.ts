import { parentPort } from 'node:worker_threads'
import { boxToBytes } from './box-to-bytes.js'
import { extendPixels } from './canvas.js'
import { decodePng } from './decode-png.js'
import { blurMask, brightnessOf, growMask, resizeMask } from './edit-mask.js'
import { enlargeLatent } from './enlarge-latent.js'
import { findEdges } from './find-edges.js'
import { onlyMasked, pasteBack } from './only-masked.js'
import { toBytes } from './pixels.js'
import { encodePng } from './png.js'
import { resizePlanes } from './resize-planes.js'
import { toRgbImage } from './to-rgb-image.js'
import { gaussianNoise } from '../sampling/noise.js'

/**
 * The jobs of the background thread: computations on images that would block the event loop for tens of milliseconds.
 */
const JOBS = {
  encodePng,
  decodePng,
  toRgbImage,
  resizePlanes,
  findEdges,
  toBytes,
  boxToBytes,
  gaussianNoise,
  enlargeLatent,
  brightnessOf,
  growMask,
  blurMask,
  resizeMask,
  extendPixels,
  onlyMasked,
  pasteBack,
}

export type Jobs = typeof JOBS

/** A request to the thread. */
export interface Request<Job extends keyof Jobs = keyof Jobs> {
  id: number
  job: Job
  args: Parameters<Jobs[Job]>
  /** buffers of `args` that were moved to this thread */
  moved: ArrayBuffer[]
}

/** The response to the request with the same id. */
export type Answer = { id: number; moved: ArrayBuffer[] } & (
  | { result: ReturnType<Jobs[keyof Jobs]> }
  | { error: unknown }
)

// Moved buffers are sent back with the answer. An idle thread never runs the garbage collection that would free them.
parentPort!.on('message', ({ id, job, args, moved }: Request) => {
  const answer = (message: Answer, transfer: ArrayBuffer[] = []) =>
    parentPort!.postMessage(message, [...moved, ...transfer])
  try {
    const result = (JOBS[job] as (...args: unknown[]) => ReturnType<Jobs[keyof Jobs]>)(...args)
    answer({ id, moved, result }, buffersOf(result))
  } catch (error) {
    answer({ id, moved, error })
  }
})

/** Of an array, or of the arrays among the fields of an object. */
function buffersOf(result: ReturnType<Jobs[keyof Jobs]>): ArrayBuffer[] {
  const arrays = ArrayBuffer.isView(result) ? [result] : Object.values(result).filter(ArrayBuffer.isView)
  return arrays.map(({ buffer }) => buffer as ArrayBuffer)
}
