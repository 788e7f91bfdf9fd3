import { copyFileSync, mkdirSync, utimesSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { tinyModelFiles } from '../../../lib/model/bundled-model.js'
import { ModelCatalogue } from '../../../lib/queue/model-catalogue.js'
import { ModelHost } from '../../../lib/queue/model-host.js'
import { collect } from '../../support/async.js'
import { temporaryFolder } from '../../support/temporary.js'

const folder = temporaryFolder()
const tiny = tinyModelFiles()
const copies = Object.fromEntries(
  ['one', 'two'].map((name) => {
    mkdirSync(join(folder, name))
    const transformer = join(folder, name, basename(tiny.transformer))
    copyFileSync(tiny.transformer, transformer)
    return [name, { ...tiny, transformer }]
  }),
)
const load = { backend: 'cpu', isolate: false }
const host = (options = {}) =>
  new ModelHost(new ModelCatalogue({ models: copies, cached: false }), { load, ...options })
const options = { prompt: 'a circle', width: 64, height: 64, steps: 2, seed: 1 }
const draw = (host: ModelHost, model: string, more = {}) =>
  collect(host.draw({ model, options: { ...options, ...more } }, new AbortController().signal))

describe('models in memory', () => {
  test('are loaded on demand and stay, the last one first', async () => {
    const own = host()
    expect(own.loaded).toEqual([])
    await draw(own, 'one')
    await draw(own, 'two')
    expect(own.loaded).toEqual(['two', 'one']) // tiny ones have room
    await draw(own, 'one')
    expect(own.loaded).toEqual(['one', 'two'])
    expect(await own.devices()).toMatchObject([{ name: 'CPU' }])
    await own.close()
    expect(own.loaded).toEqual([])
  })

  test('leave after the time that they are kept', async () => {
    const own = host({ keepAlive: 150 })
    await draw(own, 'one')
    expect(own.loaded).toEqual(['one'])
    for (let i = 0; i < 200 && own.loaded.length > 0; i++) await sleep(20)
    expect(own.loaded).toEqual([])
    await draw(own, 'one')
    await own.close()
  })

  test('leave at once with a time of 0', async () => {
    const own = host({ keepAlive: 0 })
    await draw(own, 'one')
    for (let i = 0; i < 100 && own.loaded.length > 0; i++) await sleep(20)
    expect(own.loaded).toEqual([])
    await own.close()
  })

  test('a model whose files have changed is loaded again', async () => {
    const own = host()
    await draw(own, 'two')
    const later = Date.now() / 1000 + 60
    utimesSync(copies.two!.transformer, later, later)
    // the model in memory notices that its file has changed, and refuses to draw
    await expect(draw(own, 'two')).rejects.toMatchObject({ code: 'FLUX_BAD_FILE' })
    expect((await draw(own, 'two')).at(-1)!.type).toBe('image')
    await own.close()
  })
})

test('steps say how many seconds are left, less and less', async () => {
  const own = host()
  const events = await draw(own, 'one', { steps: 6, count: 2 })
  const left = events.flatMap((event) => (event.type === 'step' ? [event.secondsLeft!] : []))
  expect(left).toHaveLength(12)
  expect(left.every((seconds) => seconds > 0)).toBe(true)
  expect(left.at(-1)).toBeLessThan(left[1]!)
  await own.close()
})

test('after close nothing is drawn', async () => {
  const own = host()
  await own.close()
  await expect(draw(own, 'one')).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
})

test('an abort while a model is loaded', async () => {
  const own = host()
  const controller = new AbortController()
  const events = collect(own.draw({ model: 'one', options }, controller.signal))
  controller.abort(new Error('enough'))
  await expect(events).rejects.toThrow('enough')
  expect((await draw(own, 'one')).at(-1)!.type).toBe('image')
  await own.close()
})
