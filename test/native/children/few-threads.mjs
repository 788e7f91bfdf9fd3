// Evaluates where the system refuses threads: few-threads.mjs WEIGHTS, in a process that may have some tens of them
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { Worker } from 'node:worker_threads'
import { FluxTransformer } from '../../../dist/nn.js'
import { anyInput } from '../../support/any-input.mjs'

const [weights] = process.argv.slice(2)
const told = (work) =>
  work.then(
    () => 'done',
    (error) => `${error.name} ${error.code} ${error.message}`,
  )
await Promise.all(Array.from({ length: 8 }, () => stat(weights))) // libuv's own threads are there from now on

const [some, many] = [
  await FluxTransformer.load(weights, { threads: 2 }),
  await FluxTransformer.load(weights, { threads: 500 }),
]
const expected = await some.predict(anyInput(some, 8, 16))
const values = await many.predict(anyInput(many, 8, 16))
console.log(values.every((value, i) => Math.abs(value - expected[i]) < 1e-4) ? 'with fewer threads' : 'wrong')

// workers until there is no thread left
const workers = []
for (let left = true; left && workers.length < 500; ) {
  try {
    const worker = new Worker('setInterval(() => {}, 1e9)', {
      eval: true,
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 8 },
    })
    left = await Promise.race([once(worker, 'online').then(() => true), once(worker, 'error').then(() => false)])
    if (left) workers.push(worker)
  } catch {
    left = false
  }
}
console.log(await told(some.predict(anyInput(some, 8, 16))))
console.log(await told(FluxTransformer.load(weights)))
for (const worker of workers) await worker.terminate()
console.log(await told(some.predict(anyInput(some, 8, 16))))
await some.close()
await many.close()
