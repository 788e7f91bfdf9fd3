import { expect, test } from 'vitest'
import { FluxError } from '../../../lib/errors.js'
import { failure } from '../../../lib/queue/job-events.js'

test.each([
  [
    '/home/u/models/loras/junk.safetensors: neither GGUF nor safetensors',
    'junk.safetensors: neither GGUF nor safetensors',
  ],
  ['image "/srv/a b.png" and C:\\models\\z.gguf', 'image "a b.png" and z.gguf'],
  ['width x height is 3/4 of 1/2', 'width x height is 3/4 of 1/2'],
  ['see https://huggingface.co/owner/name', 'see https://huggingface.co/owner/name'],
])('%j tells clients no folder', (text, told) => {
  expect(failure(new FluxError('FLUX_BAD_FILE', text))).toEqual({
    type: 'failed',
    code: 'FLUX_BAD_FILE',
    message: told,
  })
})

test('a fault of ours tells nothing', () => {
  const { code, message } = failure(new TypeError('secret of /etc/passwd'))
  expect([code, message]).toEqual(['INTERNAL', 'a fault of the server; its log has the details'])
})
