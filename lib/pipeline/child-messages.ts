import { FluxError, type FluxErrorCode } from '../errors.js'
import type { ModelFiles } from '../families/registry.js'
import type { GenerateEvent } from '../jobs/events.js'
import type { DrawOptions } from './engine.js'
import type { LoadOptions } from './load-options.js'

/** An error on its way between processes. */
export interface SentError {
  name: string
  message: string
  stack: string | undefined
  code: FluxErrorCode | undefined
}

/** To the process that computes. `folder`: what paths are relative to. `load` comes first. */
export type CallMessage =
  | { type: 'load'; files: ModelFiles; options: LoadOptions; folder: string }
  | { type: 'draw'; id: number; options: DrawOptions & { seed: number }; folder: string }
  | { type: 'estimate'; id: number; options: DrawOptions; folder: string }
  /** until it is aborted */
  | { type: 'profile'; id: number }
  | { type: 'device'; id: number }
  | { type: 'abort'; id: number }

/** From it: `loaded` or `refused` for `load`; for every other call `begun`, its events, then `value` or `error`. */
export type ReplyMessage =
  /** every five seconds: the event loop turns */
  | { type: 'alive' }
  | { type: 'loading'; progress: number }
  | { type: 'downloading'; done: number; total: number }
  | { type: 'warned'; message: string }
  | { type: 'loaded' }
  | { type: 'refused'; error: SentError }
  | { type: 'begun'; id: number }
  | { type: 'event'; id: number; event: GenerateEvent }
  | { type: 'value'; id: number; value: unknown }
  | { type: 'error'; id: number; error: SentError }

export function sentError(error: unknown): SentError {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error))
  return { name, message, stack, code: error instanceof FluxError ? error.code : undefined }
}

export function receivedError({ name, message, stack, code }: SentError): Error {
  const error = code ? new FluxError(code, message) : Object.assign(new Error(message), { name })
  return stack === undefined ? error : Object.assign(error, { stack })
}
