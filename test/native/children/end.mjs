// Gets into a state, writes 'leaving', and ends in one of many ways: node end.mjs <way> <tiny model> <large model>
import { once } from 'node:events'
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { FluxTransformer } from '../../../dist/nn.js'
import { loading, running, smallPrediction } from './states.mjs'

const [way, tiny, large] = process.argv.slice(2)
const leaving = () => writeSync(1, 'leaving\n')
const startWorker = (way) => new Worker(new URL('./worker.mjs', import.meta.url), { workerData: { way, tiny, large } })

/** Ends a worker in the given state, then shows that this thread is untouched. */
async function terminated(way) {
  const flux = await FluxTransformer.load(tiny)
  const before = await smallPrediction(flux)
  const worker = startWorker(way)
  await once(worker, 'message')
  const start = performance.now()
  await worker.terminate()
  if (performance.now() - start > (process.env.GGFLUX_SANITIZED ? 40_000 : 2000))
    throw new Error(`terminate() took ${performance.now() - start} ms`)
  same(await smallPrediction(flux), before)
}

function same(a, b) {
  if (a.length !== b.length || a.some((value, i) => value !== b[i])) throw new Error('another result than before')
}

function exit(code) {
  leaving()
  process.exit(code)
}

const WAYS = {
  idle: async () => void (await FluxTransformer.load(tiny)),
  running: () => running(tiny).then(leaving),
  closed: async () => {
    const flux = await FluxTransformer.load(tiny)
    await Promise.all([flux.close(), flux.close()])
    await flux.close()
  },
  'closed while running': async () => {
    const { flux, call } = await running(tiny)
    const order = []
    await Promise.all([call.then(() => order.push('call')), flux.close().then(() => order.push('close'))])
    if (order.join() !== 'call,close') throw new Error(`settled in the order ${order}`)
  },
  'exit, running': () => running(tiny).then(() => exit(7)),
  'exit, loading': () => {
    void loading(large)
    setTimeout(() => exit(7), 150)
  },
  'exit, closing': async () => {
    void (await running(tiny)).flux.close()
    exit(7)
  },
  'error, running': async () => {
    await running(tiny)
    leaving()
    setImmediate(() => {
      throw new Error('on purpose')
    })
  },
  'error, loading': () => {
    void loading(large)
    setTimeout(() => {
      leaving()
      throw new Error('on purpose')
    }, 150)
  },
  'rejection, running': async () => {
    await running(tiny)
    leaving()
    void Promise.reject(new Error('on purpose'))
  },
  'signal, running': async () => {
    await running(tiny)
    leaving()
    process.kill(process.pid, 'SIGTERM')
  },
  'SIGTERM handled, running': async () => {
    process.once('SIGTERM', () => exit(143))
    await running(tiny)
    process.kill(process.pid, 'SIGTERM')
  },
  'SIGINT handled, running': async () => {
    process.once('SIGINT', () => exit(130))
    await running(tiny)
    process.kill(process.pid, 'SIGINT')
  },
  'worker terminated, running': () => terminated('running'),
  'worker terminated, loading': () => terminated('loading'),
  'worker exits, running': async () => {
    const [code] = await once(startWorker('exit'), 'exit')
    if (code !== 5) throw new Error(`the worker's exit code is ${code}`)
  },
  'worker ends with open networks': async () => {
    const [code] = await once(startWorker('open'), 'exit')
    if (code !== 0) throw new Error(`the worker's exit code is ${code}`)
    await smallPrediction(await FluxTransformer.load(tiny))
  },
  'two workers and this thread': async () => {
    const workers = [startWorker('evaluate'), startWorker('evaluate')]
    const results = []
    for (const worker of workers) worker.on('message', (result) => results.push(result))
    const ends = workers.map((worker) => once(worker, 'exit'))
    const expected = await smallPrediction(await FluxTransformer.load(tiny))
    await Promise.all(ends)
    if (results.length !== 10) throw new Error(`${results.length} results of 10 came`)
    for (const result of results) same(result, expected)
  },
  'exit, workers running': async () => {
    const workers = [startWorker('running'), startWorker('running')]
    await Promise.all(workers.map((worker) => once(worker, 'message')))
    exit(7)
  },
  // --expose-gc. A network that nobody holds gives its memory back when it is collected.
  forgotten: async () => {
    const before = process.memoryUsage.rss()
    await FluxTransformer.load(large).then((flux) => {
      if (flux.memory().weights < 2 ** 28) throw new Error('the weights were not copied; nothing to see')
    })
    for (let i = 0; i < 20; i++) {
      await sleep(20)
      gc()
    }
    const kept = process.memoryUsage.rss() - before
    if (kept > 100 * 2 ** 20) throw new Error(`${kept >> 20} MiB were kept`)
  },
}
await WAYS[way]()
