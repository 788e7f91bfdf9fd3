import { createHash } from 'node:crypto'

/** The names of what is in Redis. Scripts build those of a job themselves, see `scripts.ts`. */
export class Keys {
  readonly prefix: string

  constructor(prefix: string) {
    this.prefix = prefix
  }

  /** BullMQ's prefix */
  get queues(): string {
    return `${this.prefix}:queue`
  }

  /** hash: what is known of a job */
  job(id: string): string {
    return `${this.prefix}:job:${id}`
  }

  /** stream: its events, by number */
  events(id: string): string {
    return `${this.job(id)}:events`
  }

  /** hash: PNG files by the number of their event */
  previews(id: string): string {
    return `${this.job(id)}:previews`
  }

  /** sorted set: ids of waiting jobs in the order of their turns */
  get waiting(): string {
    return `${this.prefix}:waiting`
  }

  /** set: ids of jobs that a worker has begun */
  get running(): string {
    return `${this.prefix}:running`
  }

  /** sorted set: lists of keys in the store by the time when they are deleted */
  get garbage(): string {
    return `${this.prefix}:garbage`
  }

  /** hash: when each model was last offered */
  get offered(): string {
    return `${this.prefix}:offered`
  }

  /** set: ids of workers */
  get workers(): string {
    return `${this.prefix}:workers`
  }

  /** what a worker is doing; gone when it is */
  worker(id: string): string {
    return `${this.prefix}:worker:${id}`
  }

  /** the models that a worker has */
  offer(id: string): string {
    return `${this.worker(id)}:offer`
  }

  /** channel: ids of jobs that have new events */
  get news(): string {
    return `${this.prefix}:news`
  }

  /** channel: wakes workers */
  get work(): string {
    return `${this.prefix}:work`
  }

  /** channel: ids of running jobs that are cancelled */
  get cancel(): string {
    return `${this.prefix}:cancel`
  }
}

/** BullMQ's name of a model's queue, which contains no colon. */
export function queueName(model: string): string {
  return encodeURIComponent(model)
}

/** BullMQ's id of a job; it refuses those that are whole numbers. */
export function bullId(id: string): string {
  return `job-${id}`
}

/** A client as it is written to Redis: it may be the client's secret. */
export function clientKey(client: string): string {
  return createHash('sha256').update(client).digest('base64url').slice(0, 22)
}
