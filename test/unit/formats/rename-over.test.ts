import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { renameOver } from '../../../lib/formats/rename-over.js'
import { temporaryFolder } from '../../support/temporary.js'

const folder = temporaryFolder()
let count = 0
function files(old?: 'file' | 'folder') {
  const [partial, path] = [join(folder, `${++count}.partial`), join(folder, `${count}.gguf`)]
  writeFileSync(partial, 'new')
  if (old === 'file') writeFileSync(path, 'old')
  if (old === 'folder') mkdirSync(path)
  return { partial, path }
}

function refusing(code: string, times = Infinity) {
  const failure = Object.assign(new Error(`${code}: operation not permitted`), { code })
  let calls = 0
  const move = async () => {
    if (calls++ < times) throw failure
  }
  return { move, failure, calls: () => calls }
}

test('replaces a file', async () => {
  const { partial, path } = files('file')
  await renameOver(partial, path)
  expect(readFileSync(path, 'utf8')).toBe('new')
  expect(existsSync(partial)).toBe(false)
})

test.each(['EPERM', 'EBUSY', 'EACCES'])('Windows says %s because the old file is loaded: a sentence', async (code) => {
  const { partial, path } = files('file')
  const { move, failure } = refusing(code)
  await expect(renameOver(partial, path, { platform: 'win32', move })).rejects.toMatchObject({
    name: 'FluxError',
    code: 'FLUX_BAD_FILE',
    message: expect.stringMatching(/^.*\.gguf cannot be replaced: a program has it open.*Close that first/) as string,
    cause: failure,
  })
})

test('a virus scanner that lets go is waited for', async () => {
  const { partial, path } = files('file')
  const { move, calls } = refusing('EPERM', 2)
  await renameOver(partial, path, { platform: 'win32', move })
  expect(calls()).toBe(3)
})

test.each([
  ['EPERM', undefined, 'win32'],
  ['EPERM', 'folder', 'win32'],
  ['ENOSPC', 'file', 'win32'],
  ['EPERM', 'file', 'linux'],
] as const)('%s with %s on %s stays as it is', async (code, old, platform) => {
  const { partial, path } = files(old)
  const { move, failure } = refusing(code)
  await expect(renameOver(partial, path, { platform, move })).rejects.toBe(failure)
})
