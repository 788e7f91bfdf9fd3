import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance } from 'fastify'

const FOLDER = fileURLToPath(new URL('../page/', import.meta.url))

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** The page talks to its own server and to nothing else. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
}

/** Serves the web page, whose few files are read once. */
export async function addPage(app: FastifyInstance): Promise<void> {
  const names = await readdir(FOLDER, { recursive: true, withFileTypes: true }).catch(() => [])
  for (const entry of names.filter((entry) => entry.isFile())) {
    const path = join(entry.parentPath, entry.name)
    const name = path.slice(FOLDER.length).replaceAll('\\', '/')
    const bytes = await readFile(path)
    const isPage = name === 'index.html'
    const etag = `"${createHash('sha256').update(bytes).digest('base64url')}"`
    // the names of the others contain a hash of their contents
    const cacheControl = isPage ? 'no-cache' : 'public, max-age=31536000, immutable'
    app.get(isPage ? '/' : `/${name}`, { schema: { hide: true }, logLevel: 'warn' }, async (request, reply) => {
      reply.headers({ ...HEADERS, etag, 'cache-control': cacheControl })
      if (request.headers['if-none-match'] === etag) return reply.status(304).send()
      return reply.type(TYPES[extname(name)] ?? 'application/octet-stream').send(bytes)
    })
  }
}
