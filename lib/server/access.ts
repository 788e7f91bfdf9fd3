import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { HttpError } from './errors.js'
import type { Settings } from './server-options.js'

/** routes that need no key: the page and what says whether the server is there */
const OPEN = /^\/($|\?|assets\/|favicon|health($|\?)|openapi\.json$)/

/** Checks who asks: the key, and that no foreign web page misuses the browser of somebody who may. */
export function controlAccess(
  app: FastifyInstance,
  { apiKey, allowedHosts, cors }: Pick<Settings, 'apiKey' | 'allowedHosts' | 'cors'>,
): void {
  const hosts = ['localhost', hostname(), `${hostname()}.local`, ...allowedHosts].map((name) => name.toLowerCase())
  app.addHook('onRequest', async (request) => {
    const { headers, method, url } = request
    const host = headers.host ?? headers[':authority']?.toString() ?? ''
    if (!isOwnHost(host, hosts))
      throw new HttpError(
        403,
        'host_not_allowed',
        `the host '${host.slice(0, 100)}' is none of this server's names: allow it with --allow-host`,
      )
    const { origin } = headers
    if (origin !== undefined && method !== 'GET' && method !== 'HEAD' && method !== 'OPTIONS')
      if (!cors.includes('*') && !cors.includes(origin) && !isSameOrigin(origin, host))
        throw new HttpError(
          403,
          'origin_not_allowed',
          `the page at ${origin.slice(0, 100)} may not use this server: allow it with --cors`,
        )
    if (apiKey === undefined || method === 'OPTIONS' || OPEN.test(url)) return
    if (!hasKey(request, apiKey))
      throw new HttpError(401, 'invalid_api_key', 'the API key is missing or wrong: send Authorization: Bearer KEY')
  })
}

/**
 * An address, or a name of this machine. Another name may be one that a foreign page has made its own browser resolve
 * to this machine (DNS rebinding).
 */
function isOwnHost(host: string, names: readonly string[]): boolean {
  const name = host.replace(/:\d+$/, '').toLowerCase()
  return isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0 || names.includes(name)
}

function isSameOrigin(origin: string, host: string): boolean {
  return URL.canParse(origin) && new URL(origin).host === host.toLowerCase()
}

/** `Bearer KEY`, or `Basic` with the key as the password. */
function hasKey({ headers: { authorization = '' } }: FastifyRequest, apiKey: string): boolean {
  const [, scheme, value = ''] = /^(Bearer|Basic) +(\S+)\s*$/i.exec(authorization) ?? []
  if (scheme === undefined) return false
  const given =
    scheme.toLowerCase() === 'bearer'
      ? value
      : Buffer.from(value, 'base64')
          .toString()
          .replace(/^[^:]*:/, '')
  return timingSafeEqual(digest(given), digest(apiKey))
}

/** of equal length, so that the comparison says nothing about the length either */
const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
