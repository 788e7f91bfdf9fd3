import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FolderStore } from '../../../lib/queue/folder-store.js'
import { MemoryStore, type ImageStore } from '../../../lib/queue/image-store.js'
import { temporaryFolder } from '../../support/temporary.js'

const folder = temporaryFolder()

describe.each<[string, () => ImageStore]>([
  ['in memory', () => new MemoryStore()],
  ['in a folder', () => new FolderStore(join(folder, 'kept'))],
])('a store %s', (_, open) => {
  test('gives back what was put, until it is deleted', async () => {
    const store = open()
    await store.put('job/0', Buffer.from('first'))
    await store.put('job/1', Buffer.from('second'))
    await store.put('job/0', Buffer.from('replaced'))
    expect(String(await store.get('job/0'))).toBe('replaced')
    expect(String(await store.get('job/1'))).toBe('second')
    await store.delete('job/0')
    await store.delete('job/0')
    expect(await store.get('job/0')).toBeUndefined()
    expect(await store.get('other')).toBeUndefined()
  })
})

test('memory: the oldest are deleted when they take too much', async () => {
  const store = new MemoryStore(100)
  for (const name of ['a', 'b', 'c']) await store.put(name, Buffer.alloc(40))
  expect(await Promise.all(['a', 'b', 'c'].map(async (name) => (await store.get(name)) !== undefined))).toEqual([
    false,
    true,
    true,
  ])
  await store.put('d', Buffer.alloc(500)) // more than all may take, and still the latest
  expect(await store.get('d')).toHaveLength(500)
  expect(await store.get('c')).toBeUndefined()
})

describe('a folder', () => {
  test.each(['../x', 'a/../../x', '/etc/passwd', 'a//b', '.', 'a\0b', 'a\\b', ''])('%j is no key', async (key) => {
    const store = new FolderStore(join(folder, 'keys'))
    await expect(store.put(key, Buffer.alloc(1))).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
    await expect(store.get(key)).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })

  test('old files are deleted when a store is opened, new ones and those of others stay', async () => {
    const place = join(folder, 'old')
    mkdirSync(place)
    writeFileSync(join(place, 'thesis.txt'), 'of somebody else')
    utimesSync(join(place, 'thesis.txt'), 0, 0)
    const before = new FolderStore(place, 1000)
    await before.put('old/0', Buffer.from('x'))
    await before.put('new/0', Buffer.from('x'))
    before.close()
    const past = Date.now() / 1000 - 60
    utimesSync(join(place, 'ggflux-images', 'old', '0'), past, past)
    utimesSync(join(place, 'ggflux-images', 'old'), past, past)
    const store = new FolderStore(place, 30_000)
    for (let i = 0; i < 100 && (await store.get('old/0')); i++) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(await store.get('old/0')).toBeUndefined()
    expect(await store.get('new/0')).toBeDefined()
    expect(readFileSync(join(place, 'thesis.txt'), 'utf8')).toBe('of somebody else')
    store.close()
  })

  test('that cannot be written: an error with the path, and no partial file', async () => {
    writeFileSync(join(folder, 'file'), '')
    await expect(new FolderStore(join(folder, 'file')).put('a/0', Buffer.alloc(1))).rejects.toThrow()
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([])
  })
})
