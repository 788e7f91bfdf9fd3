import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What a server does with one request for a file's bytes in place of giving them. */
export type Mishap =
  | { cutAfter: number }
  | { status: number; headers?: Record<string, string> }
  | { bytes: Buffer }
  | { ignoreRange: true }

export interface HubRequest {
  /** which of the two servers: the hub, or where it redirects to for large files */
  server: 'hub' | 'storage'
  url: string
  authorization: string | undefined
  range: string | undefined
}

/**
 * A model hub on the loopback address with the routes, redirects, hashes and error codes of the real one. Files of 1 kB and more lie in a
 * large-file storage at another address; listings come in pages of three.
 */
export class FakeHub {
  readonly requests: HubRequest[] = []
  /** what happens to the next requests for the bytes of a file, by its path in the repository */
  readonly mishaps = new Map<string, Mishap[]>()
  /** repositories that ask for this token, and for a licence accepted */
  readonly gated = new Map<string, string>()
  readonly #repositories = new Map<string, Map<string, Buffer>>()
  readonly #hub: Server
  readonly #storage: Server

  private constructor() {
    this.#hub = createServer((request, response) => this.#answerHub(request, response))
    this.#storage = createServer((request, response) => this.#answerStorage(request, response))
  }

  static async start(): Promise<FakeHub> {
    const hub = new FakeHub()
    for (const server of [hub.#hub, hub.#storage]) await once(server.listen(0, '127.0.0.1'), 'listening')
    return hub
  }

  get endpoint(): string {
    return address(this.#hub)
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }

  /** Adds files to a repository, or changes them; its commit changes with them. */
  add(repository: string, files: Record<string, Buffer>): void {
    const all = this.#repositories.get(repository) ?? new Map<string, Buffer>()
    for (const [path, bytes] of Object.entries(files)) all.set(path, bytes)
    this.#repositories.set(repository, all)
  }

  /** the sha1 that stands for what the repository holds now */
  commit(repository: string): string {
    const hash = createHash('sha1')
    for (const [path, bytes] of this.#repositories.get(repository)!) hash.update(path).update(bytes)
    return hash.digest('hex')
  }

  #note(server: HubRequest['server'], request: IncomingMessage): void {
    this.requests.push({
      server,
      url: request.url!,
      authorization: request.headers.authorization,
      range: request.headers.range,
    })
  }

  #answerHub(request: IncomingMessage, response: ServerResponse): void {
    this.#note('hub', request)
    const url = new URL(request.url!, this.endpoint)
    const [, api, repository, route, rest] =
      /^\/(api\/models\/)?([^/]+\/[^/]+)\/(revision|tree|resolve|paths-info)\/(.+)$/.exec(
        decodeURIComponent(url.pathname),
      ) ?? []
    const files = this.#repositories.get(repository ?? '')
    if (!repository || !files) return fail(response, 404, 'RepoNotFound')
    const token = this.gated.get(repository)
    if (token !== undefined && route !== 'revision' && route !== 'tree') {
      if (request.headers.authorization === undefined) return fail(response, 401, 'GatedRepo')
      if (request.headers.authorization !== `Bearer ${token}`) return fail(response, 403, 'GatedRepo')
    }
    const commit = this.commit(repository)
    const [revision = '', ...parts] = rest!.split('/')
    if (revision !== 'main' && revision !== commit) return fail(response, 404, 'RevisionNotFound')
    if (api && route === 'revision') {
      const info = {
        _id: '1',
        id: repository,
        sha: commit,
        private: false,
        gated: false,
        downloads: 0,
        likes: 0,
        lastModified: new Date(0).toISOString(),
      }
      return json(response, info)
    }
    if (api && route === 'paths-info') return void this.#pathsInfo(files, request, response)
    if (api && route === 'tree') return this.#listing(url, files, response)
    const path = parts.join('/')
    const bytes = files.get(path)
    if (!bytes) return fail(response, 404, 'EntryNotFound')
    const { oid, lfs } = entry(path, bytes)
    response.setHeader('x-repo-commit', commit)
    if (!lfs) return this.#send(path, bytes, `"${oid}"`, request, response)
    response.setHeader('x-linked-size', bytes.length)
    response.setHeader('x-linked-etag', `"${lfs.oid}"`)
    response.writeHead(302, { location: `${address(this.#storage)}/${repository}/${encodeURIComponent(path)}` }).end()
  }

  /** Of the paths that are asked for, what the listing says, and the commit that last changed each: another one for every file. */
  async #pathsInfo(files: Map<string, Buffer>, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked: Buffer[] = []
    for await (const bytes of request) asked.push(bytes as Buffer)
    const { paths } = JSON.parse(Buffer.concat(asked).toString()) as { paths: string[] }
    json(
      response,
      paths.map((path) => {
        const lastCommit = {
          id: lastChange(path, files.get(path)!),
          title: 'a change',
          date: new Date(0).toISOString(),
        }
        return { ...entry(path, files.get(path)!), lastCommit }
      }),
    )
  }

  #listing(url: URL, files: Map<string, Buffer>, response: ServerResponse): void {
    const from = Number(url.searchParams.get('cursor') ?? 0)
    const entries = [...files].map(([path, bytes]) => entry(path, bytes))
    const folders = [
      ...new Set([...files.keys()].filter((path) => path.includes('/')).map((path) => path.split('/')[0]!)),
    ]
    const all = [...folders.map((path) => ({ type: 'directory', oid: '0'.repeat(40), size: 0, path })), ...entries]
    if (from + 3 < all.length) {
      url.searchParams.set('cursor', String(from + 3))
      response.setHeader('link', `<${url.href}>; rel="next"`)
    }
    json(response, all.slice(from, from + 3))
  }

  #answerStorage(request: IncomingMessage, response: ServerResponse): void {
    this.#note('storage', request)
    const [, owner, name, path] = new URL(request.url!, address(this.#storage)).pathname
      .split('/')
      .map(decodeURIComponent)
    const bytes = this.#repositories.get(`${owner}/${name}`)!.get(path!)!
    this.#send(path!, bytes, '"storage-has-etags-of-its-own"', request, response)
  }

  #send(path: string, whole: Buffer, etag: string, request: IncomingMessage, response: ServerResponse): void {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    // the library's question for the size, one byte, is no transfer
    const mishap = last === '0' ? undefined : this.mishaps.get(path)?.shift()
    response.setHeader('etag', etag)
    if (mishap && 'status' in mishap) return void response.writeHead(mishap.status, mishap.headers).end()
    const bytes = mishap && 'bytes' in mishap ? mishap.bytes : whole
    const ranged = first !== undefined && !(mishap && 'ignoreRange' in mishap)
    const body = ranged ? bytes.subarray(Number(first), Number(last) + 1) : bytes
    if (ranged) response.setHeader('content-range', `bytes ${first}-${Number(first) + body.length - 1}/${bytes.length}`)
    response.writeHead(ranged ? 206 : 200, { 'content-length': body.length })
    if (mishap && 'cutAfter' in mishap) response.write(body.subarray(0, mishap.cutAfter), () => response.destroy())
    else response.end(body)
  }
}

export function lastChange(path: string, bytes: Buffer): string {
  return createHash('sha1').update(path).update(bytes).digest('hex')
}

function entry(
  path: string,
  bytes: Buffer,
): { type: 'file'; oid: string; size: number; path: string; lfs?: { oid: string; size: number; pointerSize: number } } {
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  const lfs = { oid: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, pointerSize: 130 }
  return { type: 'file', oid, size: bytes.length, path, ...(bytes.length >= 1000 ? { lfs } : {}) }
}

function fail(response: ServerResponse, status: number, code: string): void {
  response
    .writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' })
    .end(JSON.stringify({ error: code }))
}

function json(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(value))
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
