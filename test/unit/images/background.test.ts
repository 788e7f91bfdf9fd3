import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
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

describe('an abort', () => {
  const SIDE = 2048
  const mask = { data: new Uint8Array(SIDE * SIDE), width: SIDE, height: SIDE }
  const small = { data: new Uint8Array(16).fill(255), width: 4, height: 4 }
  const reason = new Error('enough')
  const elapsed = async (work: () => Promise<unknown>): Promise<number> => {
    const began = performance.now()
    await work()
    return performance.now() - began
  }

  // starting a thread takes some tenths of a second, the computation seconds
  test('ends the computation, and the next one does not wait for it', { retry: 2, timeout: 120_000 }, async () => {
    const whole = await elapsed(() => inBackground('growMask', [mask, 1024]))
    const controller = new AbortController()
    const long = inBackground('growMask', [mask, 1024], [], controller.signal)
    controller.abort(reason)
    await expect(long).rejects.toBe(reason)
    expect(await elapsed(() => inBackground('growMask', [small, 1]))).toBeLessThan(whole / 2)
  })

  test('leaves the thread to others', async () => {
    const controller = new AbortController()
    const aborted = inBackground(
      'growMask',
      [{ ...mask, height: 256, data: mask.data.subarray(0, 256 * SIDE) }, 64],
      [],
      controller.signal,
    )
    const other = inBackground('growMask', [small, 1])
    controller.abort(reason)
    await expect(aborted).rejects.toBe(reason)
    expect(await other).toEqual(small)
    expect(await inBackground('growMask', [small, 1], [], new AbortController().signal)).toEqual(small)
    await expect(inBackground('growMask', [small, 1], [], controller.signal)).rejects.toBe(reason)
  })

  test('of all that is waiting, one by one', async () => {
    const controllers = [new AbortController(), new AbortController()]
    const waiting = controllers.map(({ signal }) => inBackground('growMask', [mask, 1024], [], signal))
    for (const [i, controller] of controllers.entries()) {
      controller.abort(reason)
      await expect(waiting[i]).rejects.toBe(reason)
    }
    expect(await inBackground('growMask', [small, 1])).toEqual(small)
  })

  test('of readImage and resizeImage', async () => {
    const controller = new AbortController()
    const { signal } = controller
    const image = { data: new Uint8Array(3 * 512 * 512), width: 512, height: 512 }
    const works = [readImage(image, { signal }), resizeImage(image, 1024, 1024, 'cover', { signal })]
    controller.abort(reason)
    for (const work of works) await expect(work).rejects.toBe(reason)
    await expect(readImage(image, { signal: true as never })).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })
})
