import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { startServer } from '../support/server.js'

test('docs/server-api.md is what the schemas say', async () => {
  // @ts-expect-error a script without types
  const { serverDocs } = await import('../../scripts/server-docs.mjs')
  expect(await serverDocs(), 'run npm run docs:server').toBe(readFileSync('docs/server-api.md', 'utf8'))
})

test('/openapi.json names every route with its fields', async () => {
  const { url } = await startServer()
  const { openapi, paths } = (await (await fetch(`${url}/openapi.json`)).json()) as { openapi: string; paths: any }
  expect(openapi).toMatch(/^3\./)
  for (const path of [
    '/v1/images/generations',
    '/v1/images/edits',
    '/v1/images/variations',
    '/v1/models',
    '/v1/jobs',
    '/health',
  ])
    expect(Object.keys(paths)).toContain(path)
  const { schema } = paths['/v1/images/generations'].post.requestBody.content['application/json']
  expect(schema.required).toEqual(['prompt'])
  expect(schema.properties.partial_images).toMatchObject({ type: 'integer', minimum: 0, maximum: 3 })
})
