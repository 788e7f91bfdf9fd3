import { expect, test } from 'vitest'
import { loadTiny, SMALL } from '../support/tiny.js'

test('weights change the image, and only where they are asked for', async () => {
  await using pipe = await loadTiny()
  const draw = (prompt: string, promptWeights?: boolean) => pipe.generate({ ...SMALL, prompt, promptWeights })
  const plain = await draw('a red circle')
  expect((await draw('a (red:1) circle', true)).equals(plain)).toBe(true)
  expect((await draw('a (red:2) circle', true)).equals(plain)).toBe(false)
  // the same words are remembered apart
  expect((await draw('a (red:1) circle')).equals(plain)).toBe(false)
  expect((await draw('a (red:1) circle', true)).equals(plain)).toBe(true)
})
