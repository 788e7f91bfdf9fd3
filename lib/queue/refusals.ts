import { FluxError } from '../errors.js'

/** What a closed queue answers, and what the jobs that it did not finish end with. */
export function shuttingDown(): FluxError {
  return new FluxError('FLUX_CLOSED', 'the server is shutting down: try again later')
}

/** @throws {FluxError} FLUX_BUSY */
export function requireRoom(waiting: number, most: number, ofClient: number, perClient: number): void {
  if (waiting >= most) throw new FluxError('FLUX_BUSY', `the queue is full: ${waiting} jobs wait. Try again in a while`)
  if (ofClient >= perClient)
    throw new FluxError(
      'FLUX_BUSY',
      `this client has ${ofClient} jobs in the queue, the most that it may have: wait for one`,
    )
}

/** @throws {FluxError} FLUX_BAD_OPTION */
export function sameRequest<Known>(job: Known, isSame: boolean): Known {
  if (isSame) return job
  throw new FluxError(
    'FLUX_BAD_OPTION',
    'the Idempotency-Key was sent before with another request: take a new key for a new request',
  )
}
