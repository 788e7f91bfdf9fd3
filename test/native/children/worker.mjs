// A worker thread that gets into a state, says so, and waits for its end. workerData: { way, tiny, large }
import { parentPort, workerData } from 'node:worker_threads'
import { FluxTransformer } from '../../../dist/nn.js'
import { loading, running, smallPrediction } from './states.mjs'

const { way, tiny, large } = workerData
const WAYS = {
  running: async () => {
    const { call } = await running(tiny)
    parentPort.postMessage('ready')
    await call
  },
  loading: async () => {
    const load = loading(large)
    setTimeout(() => parentPort.postMessage('ready'), 150)
    await load
  },
  exit: async () => {
    await running(tiny)
    process.exit(5)
  },
  open: async () => {
    await FluxTransformer.load(tiny)
    await smallPrediction(await FluxTransformer.load(tiny))
    parentPort.postMessage('ready')
  },
  evaluate: async () => {
    const flux = await FluxTransformer.load(tiny)
    for (let i = 0; i < 5; i++) parentPort.postMessage(await smallPrediction(flux))
  },
}
await WAYS[way]()
