import { setTimeout as sleep } from 'node:timers/promises'
import { FluxError } from '../errors.js'
import type { HubSettings } from './settings.js'

export interface Requests {
  settings: HubSettings
  signal: AbortSignal | undefined
  /** receives a warning */
  warn: (message: string) => void
}

/** Seconds to wait before each retry of a failed request. An overloaded server may request more. */
const PAUSES = [1, 2, 4, 8]
const LONGEST_PAUSE = 60
/** The host is not reachable or does not listen, so waiting does not help. */
const NO_NETWORK = ['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH']

/** The hub's reasons for a refusal, by the response header `x-error-code`. */
const REFUSALS: Record<string, ['FLUX_NOT_FOUND' | 'FLUX_DOWNLOAD', string]> = {
  RepoNotFound: [
    'FLUX_NOT_FOUND',
    'there is no such repository, or it is private. Check its name; for a private one set HF_TOKEN',
  ],
  RevisionNotFound: ['FLUX_NOT_FOUND', 'the repository has no such revision. Check the name after @'],
  EntryNotFound: ['FLUX_NOT_FOUND', 'the repository has no such file. Check the name after :'],
}

/**
 * A `fetch` for one item on the hub. It sends the token to the hub's own address only, retries after temporary
 * failures, and throws an error with a readable message.
 *
 * @param what the item's name in messages
 */
export function hubFetch(requests: Requests, what: string): typeof fetch {
  const { settings, signal } = requests
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input)
    const headers = new Headers(init?.headers)
    headers.set('user-agent', 'ggflux')
    if (settings.token && url.origin === new URL(settings.endpoint).origin)
      headers.set('authorization', `Bearer ${settings.token}`)
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted()
      const response = await fetch(url, { ...init, headers, signal: signal ?? null }).catch((cause: unknown) => {
        signal?.throwIfAborted()
        return unreachable(settings, what, cause)
      })
      if (response instanceof Response && response.ok) return checkRange(headers, response, what)
      const passes =
        response instanceof Response ? response.status === 429 || response.status >= 500 : !isOffline(response)
      const asked = response instanceof Response ? Number(response.headers.get('retry-after')) : 0
      if (!passes || attempt === PAUSES.length)
        throw response instanceof Response ? await refused(response, what, settings) : response
      if (response instanceof Response) await response.body?.cancel()
      await pause(requests, asked > 0 ? Math.min(asked, LONGEST_PAUSE) : PAUSES[attempt]!)
    }
  }
}

/** Waits for some seconds, or until the signal is aborted. */
export async function pause({ signal }: Requests, seconds: number): Promise<void> {
  await sleep(seconds * 1000, undefined, signal ? { signal } : {}).catch(() => signal!.throwIfAborted())
}

/** Whether an error shows that the hub is not reachable at all. */
export function isOffline(error: unknown): boolean {
  const cause =
    error instanceof FluxError && error.code === 'FLUX_DOWNLOAD' ? (error.cause as Error | undefined)?.cause : undefined
  return NO_NETWORK.includes((cause as NodeJS.ErrnoException | undefined)?.code ?? '')
}

function unreachable({ endpoint }: HubSettings, what: string, cause: unknown): FluxError {
  const { cause: inner, message } = cause as Error
  const why = (inner as Error | undefined)?.message || message
  return new FluxError(
    'FLUX_DOWNLOAD',
    `${what}: ${endpoint} cannot be reached (${why}). Check the connection and try again`,
    { cause },
  )
}

async function refused(response: Response, what: string, { endpoint, token }: HubSettings): Promise<FluxError> {
  await response.body?.cancel()
  const { status } = response
  const code = response.headers.get('x-error-code') ?? ''
  // without access, the hub gives the same answer for private repositories and for those that do not exist
  const known =
    code === 'GatedRepo' ? undefined : (REFUSALS[code] ?? (status === 404 ? REFUSALS.RepoNotFound : undefined))
  if (known) return new FluxError(known[0], `${what}: ${known[1]}`)
  if (status === 401 || status === 403) {
    const repository = /^hf:([^:@]+)/.exec(what)?.[1] ?? ''
    const remedy = token
      ? 'and give a token of the account that accepted (hf auth login, or HF_TOKEN)'
      : 'then run `hf auth login`, or set HF_TOKEN'
    return new FluxError(
      'FLUX_DOWNLOAD',
      `${what}: its licence has to be accepted first. Do so at ${endpoint}/${repository}, ${remedy}`,
    )
  }
  const why =
    status === 429
      ? 'asks to come back later (too many requests)'
      : `answers ${status} ${response.statusText}`.trimEnd()
  return new FluxError('FLUX_DOWNLOAD', `${what}: ${endpoint} ${why}. Try again later`)
}

/** If the server sends the whole file instead of the requested range, it must not be taken for the range. */
async function checkRange(headers: Headers, response: Response, what: string): Promise<Response> {
  if (!headers.has('range') || response.status === 206) return response
  await response.body?.cancel()
  throw new FluxError(
    'FLUX_DOWNLOAD',
    `${what}: the server does not give parts of files. Download it by other means and give its path`,
  )
}
