import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { inBackground } from '../../../lib/images/background.js'
import { readImage } from '../../../lib/images/read-image.js'
import { resizeImage } from '../../../lib/images/resize.js'

const run = promisify(execFile)
const compiled = new URL('../../../dist/images/background.js', import.meta.url).href

test('what cannot be copied rejects the call, and the process still leaves by itself', async () => {
  const code = `import { inBackground } from ${JSON.stringify(compiled)}
    await inBackground('toBytes', [() => 1]).catch(({ name }) => console.log(name))`
  // before the thread's ten idle seconds are over
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code], {
    timeout: 8000,
    cwd: fileURLToPath(new URL('.', import.meta.url)),
  })
  expect(stdout).toBe('DataCloneError\n')
})

test('and other calls are not disturbed', async () => {
  const image = { data: new Uint8Array(300).fill(9), width: 10, height: 10 }
  const before = resizeImage(image, 5, 5, 'stretch')
  await expect(inBackground('toBytes', [(() => 1) as never, 1, 1])).rejects.toMatchObject({ name: 'DataCloneError' })
  expect((await before).data).toEqual(new Uint8Array(75).fill(9))
  expect((await resizeImage(image, 5, 5, 'stretch')).data).toEqual(new Uint8Array(75).fill(9))
})

test('of a colour only its three numbers count', async () => {
  const background = Object.assign([1, 2, 3] as [number, number, number], { f() {} })
  const image = { data: new Uint8Array(24).fill(9), width: 4, height: 2 }
  const { data } = await resizeImage(image, 4, 4, 'contain', { background })
  expect([...data.subarray(0, 3)]).toEqual([1, 2, 3])
  expect((await readImage(image, { background })).data).toEqual(image.data)
})
