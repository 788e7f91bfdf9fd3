import type { JobErrorCode } from '../queue.js'

/** How a worker's part in a job ended. `lost`: another worker has it; `returned`: another one may take it. */
export interface JobReport {
  id: string
  model: string
  outcome: 'completed' | 'failed' | 'cancelled' | 'lost' | 'returned'
  /** of a job that failed */
  code?: JobErrorCode
  message?: string
  /** milliseconds that it waited, from when it was added */
  waited: number
  /** milliseconds that it took */
  took: number
}
