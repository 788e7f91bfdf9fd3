import { apiKey, askForKey } from '../state/api-key.ts'
import { RequestError, UNREACHABLE } from './request-error.ts'

interface RequestOptions {
  method?: 'GET' | 'POST' | 'DELETE'
  body?: object
  headers?: Record<string, string>
}

/**
 * Sends a request with the API key, for which the user is asked if the server wants one.
 *
 * @param path relative to the page, such as `v1/jobs`
 * @throws RequestError
 */
export async function request(path: string, { method, body, headers }: RequestOptions = {}): Promise<Response> {
  for (;;) {
    const key = apiKey.value
    const response = await fetch(new URL(path, document.baseURI), {
      method,
      headers: {
        ...(key && { Authorization: `Bearer ${key}` }),
        ...(body && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body && JSON.stringify(body),
    }).catch(() => undefined)
    if (response?.status === 401) {
      if (await askForKey(key)) continue
      throw new RequestError(401, 'The server wants an API key. Without it nothing can be drawn.')
    }
    if (!response)
      throw new RequestError(UNREACHABLE, 'The server does not answer. Check that it runs, then try again.')
    if (!response.ok) throw await RequestError.from(response)
    return response
  }
}

/** Like {@link request}, but tries again for as long as the server is not reachable. */
export async function persistentRequest(
  path: string,
  headers: Record<string, string>,
  onConnection: (isConnected: boolean) => void,
): Promise<Response> {
  for (let attempt = 0; ; attempt++) {
    try {
      const response = await request(path, { headers })
      onConnection(true)
      return response
    } catch (error) {
      if (!(error instanceof RequestError && error.isTemporary)) throw error
      onConnection(false)
      await backOff(attempt)
    }
  }
}

/** Half a second, then twice as long each time, up to ten seconds. */
export function backOff(attempt: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** attempt, 10_000)))
}
