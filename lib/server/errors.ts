import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { FluxError, type FluxErrorCode } from '../errors.js'
import type { JobErrorCode, JobStatus } from '../queue/queue.js'
import { wireName } from './wire.js'

/** An error with the status of its answer. */
export class HttpError extends Error {
  readonly status: number
  readonly code: string
  readonly param: string | null

  constructor(status: number, code: string, message: string, param: string | null = null) {
    super(message)
    this.status = status
    this.code = code
    this.param = param
  }
}

/** for a request whose job somebody else has cancelled */
const CANCELLED = 409

const STATUS: Record<JobErrorCode, number> = {
  FLUX_BAD_OPTION: 400,
  FLUX_BAD_SHAPE: 400,
  FLUX_UNSUPPORTED: 400,
  FLUX_NOT_FOUND: 404,
  FLUX_BUSY: 429,
  FLUX_BAD_FILE: 500,
  FLUX_DEVICE: 500,
  FLUX_CRASHED: 500,
  INTERNAL: 500,
  FLUX_DOWNLOAD: 502,
  FLUX_CLOSED: 503,
  FLUX_OUT_OF_MEMORY: 507,
}

/** the names of the images of a request, with which messages about them begin */
const IMAGES =
  /^(?:the colour profile of )?(image|init_images|mask|controlImage|referenceImages|controlNets|redux|ipAdapters)\b/

/** seconds after which a client may try again */
const RETRY_AFTER = 5

/** The options in messages, by their names on the wire. */
function inWireNames(message: string): string {
  return message.replace(
    /\b(negativePrompt|trueCfg|maxSequenceLength|promptWeights|stepCache|maskBlur|maskGrow|onlyMasked|controlImage|referenceImages|referencePlacement|controlNets|ipAdapters|strengthType|zeroStar|zeroInitSteps)\b/g,
    wireName,
  )
}

export function httpError(code: JobErrorCode, text: string): HttpError {
  const status = code === 'FLUX_BAD_FILE' && IMAGES.test(text) ? 400 : STATUS[code]
  const message = inWireNames(text)
  const [param] = /^[a-z_]+(?=[ .[])/.exec(message) ?? []
  const isOption = status === 400 && param !== undefined && / is /.test(message)
  return new HttpError(status, code, message, isOption ? param : null)
}

/** The error of a job that did not end with its images. */
export function jobError({ error }: JobStatus): HttpError {
  return error
    ? httpError(error.code, error.message)
    : new HttpError(CANCELLED, 'cancelled', 'the job was cancelled before its end')
}

const TYPES: Record<number, string> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
}

export function toHttpError(error: FastifyError | FluxError | HttpError): HttpError {
  if (error instanceof HttpError) return error
  if (error instanceof FluxError) return httpError(error.code as FluxErrorCode, error.message)
  const { validation, statusCode = 500, message } = error
  const [first] = validation ?? []
  if (first) {
    const param = first.instancePath.slice(1).replaceAll('/', '.') || String(first.params.missingProperty ?? '')
    return new HttpError(400, 'FLUX_BAD_OPTION', `${param || 'the request'} ${first.message}`, param || null)
  }
  if (statusCode >= 500) return new HttpError(statusCode, 'INTERNAL', 'a fault of the server; its log has the details')
  return new HttpError(statusCode, error.code ?? 'bad_request', message)
}

/** What every failed request is answered with: in OpenAI's form, below `/sdapi` in A1111's. */
export function sendError(error: Error, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const failure = toHttpError(error as FastifyError)
  if (failure.code === 'INTERNAL') request.log.error({ err: error }, 'a fault of the server')
  const { status, code, message } = failure
  reply.raw.statusMessage = reasonPhrase(message, status)
  if (status === 429 || status === 503) reply.header('retry-after', RETRY_AFTER)
  // a client that tries again by itself would only repeat what has just failed
  if (status >= 500 && status !== 503) reply.header('x-should-retry', 'false')
  return reply
    .status(status)
    .send(
      request.url.startsWith('/sdapi/')
        ? { error: code, detail: message, body: '', errors: message }
        : { error: errorBody(failure) },
    )
}

export function errorBody({ status, code, message, param }: HttpError): object {
  const type = TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error')
  return { message, type, param, code }
}

/** A short cause, which is all that some clients show. */
function reasonPhrase(message: string, status: number): string {
  const line = message.replace(/[^\x20-\x7e]+/g, ' ').trim()
  const short = line.length > 120 ? `${line.slice(0, 117)}...` : line
  return short || (STATUS_CODES[status] ?? 'Error')
}
