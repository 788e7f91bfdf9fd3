import { inSeconds } from '../state/words.ts'

/** the status of a request without an answer */
export const UNREACHABLE = 0

/** A request failed. The message says in words what is wrong and what to do. */
export class RequestError extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }

  /** The server, or a proxy before it, cannot be reached at the moment. */
  get isTemporary(): boolean {
    return [UNREACHABLE, 502, 503, 504].includes(this.status)
  }

  static async from(response: Response): Promise<RequestError> {
    const { status } = response
    if (status === 413)
      return new RequestError(status, 'The images are too large for the server. Use smaller ones, or fewer of them.')
    const body = await response.json().catch(() => undefined)
    const message = body?.error?.message ?? `The server answered with status ${status}. Try again.`
    if (status !== 429) return new RequestError(status, message)
    return new RequestError(status, `The server takes no more jobs: ${message}. Try again ${retryTime(response)}.`)
  }
}

/** `Retry-After` is a number of seconds, or a date. */
function retryTime(response: Response): string {
  const text = response.headers.get('Retry-After')
  if (!text) return 'later'
  const seconds = Number.isNaN(Number(text)) ? (Date.parse(text) - Date.now()) / 1000 : Number(text)
  return `in ${inSeconds(seconds)}`
}
