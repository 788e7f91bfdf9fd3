// Uses a server that stops answering when it is told to, and leaves: silent-server.mjs WAY BACKEND WEIGHTS, over an IPC channel: it sends
// 'ready' when the server is in use and leaves when a message comes
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { fileURLToPath } from 'node:url'
import { FluxTransformer } from '../../../dist/nn.js'
import { anyInput } from '../../support/any-input.mjs'

const [way, backend, weights] = isMainThread ? process.argv.slice(2) : workerData

/** One network at work, and one that has to be freed behind it. */
async function use() {
  const networks = [await FluxTransformer.load(weights, { backend }), await FluxTransformer.load(weights, { backend })]
  void networks[0].predict(anyInput(networks[0], 64, 512))
  await sleep(200)
  return networks
}

if (!isMainThread) {
  await use()
  parentPort.postMessage('ready')
} else if (way === 'in a worker') {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: [way, backend, weights] })
  await once(worker, 'message')
  process.send('ready')
  await once(process, 'message')
  await worker.terminate()
  process.exit(7)
} else {
  const networks = await use()
  process.send('ready')
  await once(process, 'message')
  process.exit(networks.length > 0 ? 7 : 0) // still held
}
