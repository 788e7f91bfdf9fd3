// Writes docs/server-api.md from the schemas of the server's routes: npm run docs:server
import { writeFileSync } from 'node:fs'
import { createServer } from '../dist/server/index.js'

const TITLES = {
  jobs: ['Jobs', 'Our own API: a request becomes a job, which can be followed and cancelled.'],
  openai: ["OpenAI's image routes", 'With options of our own at top level.'],
  a1111: [
    "A1111's routes",
    'For programs that know the API of the Stable Diffusion web UI. Fields that mean nothing here are ignored.',
  ],
  models: ['Models and settings', ''],
  health: ['Health', ''],
}

/** @param {any} schema */
function typeOf(schema) {
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(', ')
  if (schema.const !== undefined) return `\`${schema.const}\``
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].join(' or ')
  if (schema.type === 'array') return `list of ${typeOf(schema.items)}`
  if (schema.type === 'object') return 'object'
  const kind = { integer: 'whole number', string: 'text', boolean: 'true or false' }[schema.type] ?? schema.type
  const { minimum, maximum } = schema
  const most = maximum === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : maximum
  if (minimum !== undefined && maximum !== undefined) return `${kind}, ${minimum} to ${most}`
  return minimum === undefined ? kind : `${kind}, ${minimum} or more`
}

/**
 * A row for each field, and for the fields of objects in it.
 *
 * @param {any} schema
 * @param {string} prefix
 * @returns {string[]}
 */
function rows({ properties = {}, required = [] }, prefix = '') {
  return Object.entries(properties).flatMap(([name, field]) => {
    const isNeeded = required.includes(name) && prefix === ''
    const row = `| \`${prefix}${name}\`${isNeeded ? ' (required)' : ''} | ${typeOf(field)} | ${field.description ?? ''} |`
    const inner = field.type === 'array' ? rows(field.items, `${prefix}${name}[].`) : rows(field, `${prefix}${name}.`)
    return [row, ...inner]
  })
}

/** @param {any} schema */
const table = (schema) => ['| field | value | meaning |', '|---|---|---|', ...rows(schema)].join('\n')

export async function serverDocs() {
  const { app, close } = await createServer({ port: 0, logLevel: 'silent' })
  await app.ready()
  const { paths } = app.swagger()
  await close()
  const parts = [
    '# The routes of the server',
    'Made by `npm run docs:server` from the schemas that the server checks requests with. A running server has the same as OpenAPI at `/openapi.json`. [server.md](server.md) explains how to use it. An image file is sent as base64 or a data URI; addresses are not fetched. A server allows less than the ranges here, by its [limits](server.md#who-may-use-it).',
  ]
  for (const [tag, [title, text]] of Object.entries(TITLES)) {
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, route]) =>
        route.tags?.includes(tag) ? [{ path, method, route }] : [],
      ),
    )
    if (routes.length === 0) continue
    parts.push(`## ${title}`, ...(text ? [text] : []))
    for (const { path, method, route } of routes) {
      parts.push(
        `### \`${method.toUpperCase()} ${path}\``,
        `${route.summary}.${route.description ? ` ${route.description}` : ''}`,
      )
      const query = (route.parameters ?? []).filter((one) => one.in === 'query')
      const asked = Object.fromEntries(query.map(({ name, schema, description }) => [name, { ...schema, description }]))
      if (query.length > 0) parts.push(table({ properties: asked }))
      const body = route.requestBody?.content?.['application/json']?.schema
      if (body?.properties) parts.push(table(body))
    }
  }
  return `${parts.join('\n\n')}\n`
}

if (process.argv[1]?.endsWith('server-docs.mjs'))
  writeFileSync(new URL('../docs/server-api.md', import.meta.url), await serverDocs())
