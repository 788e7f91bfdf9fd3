import multipart from '@fastify/multipart'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { HttpError } from './errors.js'
import type { ServerLimits } from './server-options.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** the files of a form, by field; `image[]` counts as `image` */
    uploads?: Record<string, Buffer[]>
  }
}

const [MOST_FILES, MOST_FIELDS] = [32, 100]
/** fields whose text is never a list or an object */
const TEXTS = new Set(['prompt', 'negative_prompt'])

/** Reads forms: text fields become the body, as if they had come as JSON, and files become `request.uploads`. */
export async function acceptForms(app: FastifyInstance, { body: most }: ServerLimits): Promise<void> {
  await app.register(multipart, {
    limits: {
      fileSize: most,
      fieldSize: most,
      files: MOST_FILES,
      fields: MOST_FIELDS,
      parts: MOST_FILES + MOST_FIELDS,
    },
  })
  app.addHook('preValidation', async (request) => {
    if (request.isMultipart()) request.body = await readForm(request, most).catch(refuse)
  })
}

/** What the parser says of a damaged form has no status. */
function refuse(error: Error & { statusCode?: number }): never {
  if (error instanceof HttpError || error.statusCode !== undefined) throw error
  throw new HttpError(400, 'bad_form', `the form cannot be read: ${error.message}`)
}

async function readForm(request: FastifyRequest, most: number): Promise<Record<string, unknown>> {
  const fields: Record<string, unknown> = Object.create(null)
  const uploads: Record<string, Buffer[]> = Object.create(null)
  let total = 0
  const count = (bytes: number): void => {
    total += bytes
    if (total > most)
      throw new HttpError(413, 'too_large', `the form is larger than the ${most} bytes that this server takes`)
  }
  for await (const part of request.parts()) {
    const name = (part.fieldname ?? '').replace(/\[\d*\]$/, '')
    if (name === '') throw new HttpError(400, 'bad_form', 'a part of the form has no name')
    if (part.type === 'file') {
      const bytes = await part.toBuffer()
      count(bytes.length)
      // an empty file is what a browser sends for a field that was left empty
      if (bytes.length > 0) (uploads[name] ??= []).push(bytes)
    } else {
      const value = String(part.value)
      count(value.length)
      // the limits above cut a value, and the status would be 200
      if (part.valueTruncated || part.fieldnameTruncated)
        throw new HttpError(413, 'too_large', `the field ${name.slice(0, 50)} is too long`)
      // a browser sends fields that were left empty
      if (value !== '' || TEXTS.has(name))
        fields[name] = !TEXTS.has(name) && /^\s*[[{]/.test(value) ? parsed(value) : value
    }
  }
  request.uploads = uploads
  return fields
}

/** A list or an object in a text field; other text stays as it is. */
function parsed(value: string): unknown {
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}
