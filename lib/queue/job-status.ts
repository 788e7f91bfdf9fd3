import type { JobEvent, JobStatus } from './queue.js'

/** A job that has just been added. */
export function newStatus(id: string, model: string, count: number): JobStatus {
  return {
    ...{ id, model, createdAt: Date.now(), state: 'waiting', position: 0, stage: null, index: 0, count },
    ...{ step: 0, steps: 0, progress: 0, secondsLeft: null, warnings: [], images: [], error: null, lastEvent: 0 },
  }
}

/** The status after an event. */
export function statusAfter(status: JobStatus, event: JobEvent): JobStatus {
  return { ...status, ...change(status, event), lastEvent: event.id }
}

function change(status: JobStatus, event: JobEvent): Partial<JobStatus> {
  const over = { position: 0, stage: null, secondsLeft: null }
  switch (event.type) {
    case 'waiting':
      return { position: event.position }
    case 'started':
      // again, if the worker that had begun it died
      return { state: 'running', position: 0, index: 0, step: 0, progress: 0, images: [], warnings: [] }
    case 'stage':
      return { stage: event.stage }
    case 'step': {
      const { index, step, steps, secondsLeft } = event
      return { index, step, steps, secondsLeft, progress: (index + step / (steps + 1)) / status.count }
    }
    case 'warning':
      return { warnings: [...status.warnings, event.message] }
    case 'image': {
      const { id: _, type: _1, ...image } = event
      return { images: [...status.images, image], progress: (event.index + 1) / status.count }
    }
    case 'completed':
      return { ...over, state: 'completed', progress: 1 }
    case 'failed':
      return { ...over, state: 'failed', error: { code: event.code, message: event.message } }
    case 'cancelled':
      return { ...over, state: 'cancelled' }
  }
}

export function isOver({ state }: Pick<JobStatus, 'state'>): boolean {
  return state !== 'waiting' && state !== 'running'
}

export function isLast({ type }: Pick<JobEvent, 'type'>): boolean {
  return type === 'completed' || type === 'failed' || type === 'cancelled'
}
