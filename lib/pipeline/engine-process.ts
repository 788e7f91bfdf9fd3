/** The program of a child process that makes images, see `child-engine.ts`. Its argument is the id of the parent. */

import { parentProcess } from '../native/parent-process.js'
import { sentError, type CallMessage, type ReplyMessage } from './child-messages.js'
import { LocalEngine } from './local-engine.js'
import { openModel } from './open-model.js'

const { post, onMessage } = parentProcess<CallMessage, ReplyMessage>(process.argv[2] ?? '0')
const running = new Map<number, AbortController>()
let engine: LocalEngine | undefined

process.on('disconnect', () => process.exit())
setInterval(() => void post({ type: 'alive' }), 5000)
process.on('warning', ({ message, name }) => {
  if (name === 'FluxWarning') void post({ type: 'warned', message })
})

onMessage((message) => {
  if (message.type === 'load') void load(message)
  else if (message.type === 'abort') running.get(message.id)?.abort()
  else void answer(message)
})

async function load({ files, options, folder }: CallMessage & { type: 'load' }): Promise<void> {
  process.chdir(folder)
  try {
    const model = await openModel(files, { onWarning: () => {} }) // the parent has opened it, and warned
    engine = await LocalEngine.load(model, {
      ...options,
      onProgress: (progress) => void post({ type: 'loading', progress }),
      onDownload: (done, total) => void post({ type: 'downloading', done, total }),
    })
    await post({ type: 'loaded' })
  } catch (error) {
    await post({ type: 'refused', error: sentError(error) })
  }
}

async function answer(call: Exclude<CallMessage, { type: 'load' | 'abort' }>): Promise<void> {
  const { id } = call
  const controller = new AbortController()
  running.set(id, controller)
  void post({ type: 'begun', id })
  try {
    if ('folder' in call && call.folder !== process.cwd()) process.chdir(call.folder)
    await post({ type: 'value', id, value: await perform(call, controller.signal) })
  } catch (error) {
    await post({ type: 'error', id, error: sentError(error) })
  } finally {
    running.delete(id)
  }
}

async function perform(call: Exclude<CallMessage, { type: 'load' | 'abort' }>, signal: AbortSignal): Promise<unknown> {
  if (call.type === 'estimate') return engine!.estimate(call.options, signal)
  if (call.type === 'device') return engine!.device()
  if (call.type === 'profile')
    return engine!.profile(
      () => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true })),
    )
  const events = engine!.draw(call.options, signal)
  for (;;) {
    const { value, done } = await events.next()
    if (done) return value
    void post({ type: 'event', id: call.id, event: value })
  }
}
